// Attention of many query vectors with a matrix unit, in products of bfloat16.
//
// Included by the file that is compiled with wide instructions, so it holds declarations only (see vector.h).
#ifndef MINDIR_LLM_KERNELS_FUSED_ATTENTION_MATRIX_H_
#define MINDIR_LLM_KERNELS_FUSED_ATTENTION_MATRIX_H_

#include <cstdint>

namespace mllm {

enum class Isa;

// `rows` rows of a prompt, of which each has `heads` query vectors of one KV head, side by side. Row r sees
// the positions 0 ... position + r of that head's cache.
struct MatrixAttention {
  const float* q;
  float* y;
  int64_t row_stride;  // of q and y
  int64_t rows;
  int64_t heads;
  int64_t position;
  const void* keys;  // [positions, d]
  const void* values;
  int64_t item_bytes;  // of the caches: 4 for float32, 2 for float16, 1 for int8
  int64_t d;
  float scale;  // of the queries
  // What the integers of int8 caches are times, or null: one factor per position, or one per channel.
  const float* key_rows;
  const float* value_rows;
  const float* key_channels;
  const float* value_channels;
  void* scratch;  // matrix_scratch_bytes(), aligned to 64
};

struct MatrixKernels {
  // Memory for so many query vectors, rows times heads.
  int64_t (*scratch_bytes)(int64_t vectors, int64_t d);
  // Queries, keys, values and weights are rounded to bfloat16, sums are float32. Which positions share a
  // product depends on absolute positions alone, so that a row's result is the same whatever is computed
  // beside it. A row that sees a value that is not finite, or has one later in its call, is NaN.
  void (*attend)(const MatrixAttention&);
};

const MatrixKernels& amx_attention();  // exists on x86-64 only

// Of `isa`, which must be supported, and of current_isa(); null where there is no such unit.
const MatrixKernels* matrix_attention(Isa isa);
const MatrixKernels* matrix_attention();

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_FUSED_ATTENTION_MATRIX_H_
