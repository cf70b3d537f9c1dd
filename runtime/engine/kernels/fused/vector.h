// The inner loops of the fused operators, as one table of functions per instruction set.
//
// Included by the files that are compiled with wide instructions, so it holds declarations only: an inline
// function here, or a header that has any, could be linked from such a file into code that runs everywhere.
#ifndef MINDIR_LLM_KERNELS_FUSED_VECTOR_H_
#define MINDIR_LLM_KERNELS_FUSED_VECTOR_H_

#include <cstdint>

namespace mllm {

enum class Isa;

// What the caller is going to read from memory: a kernel that gets this brings it to the cache while it
// computes.
struct MemoryRange {
  const void* data;
  int64_t bytes;
};

// A small product of matrices: c[r][j] = sum over i of a[r][i] * b[i][j], or c + that sum, i ascending. n is
// a multiple of kProductColumns, to which whoever makes b and c pads them.
struct ProductBlock {
  const float* a;
  const float* b;
  float* c;
  int64_t rows;
  int64_t n;
  int64_t k;  // at least 1
  int64_t a_stride;
  int64_t b_stride;
  int64_t c_stride;
  bool accumulate;
  MemoryRange next;
};
inline constexpr int64_t kProductColumns = 16;    // the lanes of the widest instruction set
inline constexpr int64_t kTransposedStride = 64;  // a constant: 16 addresses need not be computed

// Of a set of scores: the greatest, and the sum of exp(score - maximum).
struct SoftmaxState {
  float maximum;
  float sum;
};

// Every sum adds in an order that depends on its length alone, so that a result is the same whatever is
// computed beside it. Vectors need no alignment beyond that of their elements.
struct VectorKernels {
  float (*dot)(const float* a, const float* b, int64_t size);
  // y[i] = a[i] * factor * b[i]; y may be a or b
  void (*multiply)(const float* a, float factor, const float* b, float* y, int64_t size);
  void (*to_f16)(const float* x, uint16_t* y, int64_t size);  // rounded to nearest even
  void (*from_f16)(const uint16_t* x, float* y, int64_t size);
  void (*from_i8)(const int8_t* x, float* y, int64_t size);

  // y[i] = e^x[i], within 1.01 units in the last place; 0 for results below 1.2e-38
  void (*exp)(const float* x, float* y, int64_t size);
  // y[i] = gate[i] / (1 + e^-gate[i]) * up[i]
  void (*swiglu)(const float* gate, const float* up, float* y, int64_t size);
  // y[i] = x[i] * factor
  void (*scale_to)(const float* x, float factor, float* y, int64_t size);

  void (*product)(const ProductBlock&);
  // y[i * kTransposedStride + j] = rows[j * size + i] for count <= kTransposedStride rows, and 0 for j from
  // count to the next multiple of kProductColumns
  void (*transpose_f32)(const void* rows, int64_t count, int64_t size, float* y, MemoryRange next);
  void (*transpose_f16)(const void* rows, int64_t count, int64_t size, float* y, MemoryRange next);
  void (*transpose_i8)(const void* rows, int64_t count, int64_t size, float* y, MemoryRange next);
  // For rows of `count` scores, `stride` apart: score = e^(score - maximum). They are overwritten up to a
  // multiple of kProductColumns. NaN scores make the sum NaN; with -infinity only, all results and the sum
  // are 0.
  void (*softmax)(float* scores, int64_t stride, int64_t rows, int64_t count, SoftmaxState* states);
  // Sums y of weighted vectors take in those of another set of scores. size is a multiple of kProductColumns.
  void (*softmax_merge)(float* y, SoftmaxState* state, const float* x, const SoftmaxState* other,
                        int64_t size);
};

const VectorKernels& generic_kernels();
const VectorKernels& avx2_kernels();    // exists on x86-64 only
const VectorKernels& avx512_kernels();  // exists on x86-64 only
const VectorKernels& neon_kernels();    // exists on 64-bit ARM only
const VectorKernels& vfpv4_kernels();   // exists on 32-bit ARM only, from ARMv7 on

// The table for `isa`, which must be supported; the one for current_isa().
const VectorKernels& vector_kernels(Isa isa);
const VectorKernels& vector_kernels();

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_FUSED_VECTOR_H_
