// The inner loops of the fused operators, as one table of functions per instruction set.
//
// Included by the files that are compiled with wide instructions, so it holds declarations only: an inline
// function here, or a header that has any, could be linked from such a file into code that runs everywhere.
#ifndef MINDIR_LLM_KERNELS_FUSED_VECTOR_H_
#define MINDIR_LLM_KERNELS_FUSED_VECTOR_H_

#include <cstdint>

namespace mllm {

enum class Isa;

// Every sum adds in an order that depends on its length alone, so that a result is the same whatever is
// computed beside it. Vectors need no alignment beyond that of their elements.
struct VectorKernels {
  float (*dot)(const float* a, const float* b, int64_t size);
  // y[i] = y[i] * factor
  void (*scale)(float* y, float factor, int64_t size);
  // y[i] = a[i] * factor * b[i]; y may be b
  void (*multiply)(const float* a, float factor, const float* b, float* y, int64_t size);
  // scores[j] = factor * dot(query, keys + j * stride), j < count
  void (*scores_f32)(const float* query, const void* keys, int64_t stride, int64_t count, int64_t size,
                     float factor, float* scores);
  void (*scores_f16)(const float* query, const void* keys, int64_t stride, int64_t count, int64_t size,
                     float factor, float* scores);
  // y[i] += sum over j of weights[j] * values[j * stride + i], j ascending
  void (*accumulate_f32)(float* y, const float* weights, const void* values, int64_t stride, int64_t count,
                         int64_t size);
  void (*accumulate_f16)(float* y, const float* weights, const void* values, int64_t stride, int64_t count,
                         int64_t size);
  void (*to_f16)(const float* x, uint16_t* y, int64_t size);  // rounded to nearest even
  void (*from_f16)(const uint16_t* x, float* y, int64_t size);
};

const VectorKernels& generic_kernels();
const VectorKernels& avx2_kernels();    // exists on x86-64 only
const VectorKernels& avx512_kernels();  // exists on x86-64 only

// The table for `isa`, which must be supported; the one for current_isa().
const VectorKernels& vector_kernels(Isa isa);
const VectorKernels& vector_kernels();

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_FUSED_VECTOR_H_
