// Attention over all segments: cut into tiles, and over pieces of the context too where tiles alone would
// leave threads without work.
#ifndef MINDIR_LLM_KERNELS_FUSED_ATTENTION_SCHEDULE_H_
#define MINDIR_LLM_KERNELS_FUSED_ATTENTION_SCHEDULE_H_

#include <cstdint>
#include <span>

#include "graph/operator.h"
#include "kernels/fused/attention_matrix.h"
#include "kernels/fused/attention_tile.h"
#include "kernels/fused/vector.h"

namespace mllm::fused {

struct AttentionShape {
  int64_t rows;  // at most
  int64_t heads, kv_heads;
  int64_t length;  // positions per slot of the cache
  int64_t d;
};

// What the integers of keys or values are times: `channels` [kv_heads, d], or `rows` [slots, kv_heads,
// length], or nothing.
struct CacheScales {
  const float* channels = nullptr;
  const float* rows = nullptr;
};

struct AttentionCall {
  AttentionShape shape;
  const float* q;  // [rows, heads * d]
  const void* keys;
  const void* values;  // [slots, kv_heads, length, d]
  CacheType type;
  float scale;
  float* y;  // like q
  CacheScales key_scales = {};
  CacheScales value_scales = {};
};

size_t attention_scratch_bytes(const AttentionShape& shape, int threads);

// scratch: attention_scratch_bytes of the pool's threads, 64-byte aligned. Segments must be inside of the
// cache.
void attend(const VectorKernels& kernels, const AttentionCall& call, std::span<const Segment> segments,
            ThreadPool& pool, void* scratch);

// The same with a matrix unit, which rounds to bfloat16.
size_t attention_scratch_bytes(const MatrixKernels& kernels, const AttentionShape& shape, int threads);
void attend(const MatrixKernels& kernels, const AttentionCall& call, std::span<const Segment> segments,
            ThreadPool& pool, void* scratch);

}  // namespace mllm::fused

#endif  // MINDIR_LLM_KERNELS_FUSED_ATTENTION_SCHEDULE_H_
