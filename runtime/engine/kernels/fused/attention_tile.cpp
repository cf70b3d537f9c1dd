#include "kernels/fused/attention_tile.h"

#include <cstring>
#include <utility>

namespace mllm::fused {
namespace {

// One vector more than a piece: with a power of two, equal positions of all query vectors would compete for
// the same few places of the first-level cache.
constexpr int64_t kScoresStride = kPiece + kProductColumns;

// Query vectors that share a product near the diagonal, where each row sees one position more than the one
// before.
constexpr int32_t kDiagonalVectors = 6;

const void* row(const void* cache, const CacheHead& head, int64_t position) {
  return static_cast<const uint8_t*>(cache) + position * head.d * item_bytes(head.type);
}

// The step at position j of a piece that ends at `end`; empty behind it.
MemoryRange step_at(const void* cache, const CacheHead& head, int64_t j, int64_t end) {
  const int64_t rows = std::min(end - j, kStep);
  if (rows <= 0) return {};
  return {row(cache, head, j), rows * head.d * item_bytes(head.type)};
}

std::pair<MemoryRange, MemoryRange> halves(const MemoryRange& range) {
  const int64_t half = range.bytes / 2;
  return {{range.data, half}, {static_cast<const uint8_t*>(range.data) + half, range.bytes - half}};
}

void scores_of(const VectorKernels& kernels, const CacheHead& cache, const TileRows& tile, int64_t begin,
               int64_t end, const TileScratch& scratch) {
  const auto transpose = cache.type == CacheType::Float32   ? kernels.transpose_f32
                         : cache.type == CacheType::Float16 ? kernels.transpose_f16
                                                            : kernels.transpose_i8;
  for (int64_t j = begin; j < end; j += kStep) {
    const int64_t count = std::min(kStep, end - j);
    const int64_t first = tile.first_seeing(j) * tile.heads;
    const auto [first_half, second_half] = halves(j + count < end ? step_at(cache.keys, cache, j + count, end)
                                                                  : step_at(cache.values, cache, begin, end));
    transpose(row(cache.keys, cache, j), count, cache.d, scratch.step, first_half);
    kernels.product({scratch.queries + first * cache.d, scratch.step,
                     scratch.scores + first * kScoresStride + j - begin, tile.vectors() - first,
                     padded(count), cache.d, cache.d, kStep, kScoresStride, false, second_half});
  }
}

void copy_widened(const VectorKernels& kernels, CacheType type, const void* from, float* to, int64_t count) {
  switch (type) {
    case CacheType::Float32:
      std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
      break;
    case CacheType::Float16:
      kernels.from_f16(static_cast<const uint16_t*>(from), to, count);
      break;
    case CacheType::Int8:
      kernels.from_i8(static_cast<const int8_t*>(from), to, count);
      break;
  }
}

// The values of a step as float32 rows of whole vectors.
const float* widen(const VectorKernels& kernels, const CacheHead& cache, int64_t j, int64_t count,
                   float* step) {
  const int64_t d = cache.d;
  if (padded(d) == d) {
    const void* values = row(cache.values, cache, j);
    if (cache.type == CacheType::Float32) return static_cast<const float*>(values);
    copy_widened(kernels, cache.type, values, step, count * d);
    return step;
  }
  for (int64_t i = 0; i < count; ++i) {
    float* to = step + i * padded(d);
    copy_widened(kernels, cache.type, row(cache.values, cache, j + i), to, d);
    std::fill(to + d, to + padded(d), 0.0f);
  }
  return step;
}

// The scores (or weights) of each query vector of some rows times the scales of their positions.
void multiply_scores(const VectorKernels& kernels, float* scores, int64_t vectors, int64_t count,
                     const float* scales) {
  for (int64_t i = 0; i < vectors; ++i) {
    float* row = scores + i * kScoresStride;
    kernels.multiply(row, 1.0f, scales, row, count);
  }
}

void weighted_values(const VectorKernels& kernels, const CacheHead& cache, const TileRows& tile,
                     int64_t begin, int64_t end, const TileScratch& scratch, float* sums,
                     const MemoryRange& then) {
  const int64_t stride = padded(cache.d);
  for (int64_t j = begin; j < end; j += kStep) {
    const int64_t count = std::min(kStep, end - j);
    const MemoryRange next = j + count < end ? step_at(cache.values, cache, j + count, end) : then;
    const float* values = widen(kernels, cache, j, count, scratch.step);
    // Positions [from, to) of this step for the rows [row0, row1).
    const auto add = [&](int64_t row0, int64_t row1, int64_t from, int64_t to) {
      const int64_t first = row0 * tile.heads;
      kernels.product({scratch.scores + first * kScoresStride + j - begin + from, values + from * stride,
                       sums + first * stride, (row1 - row0) * tile.heads, stride, to - from, kScoresStride,
                       stride, stride, j + from > begin, row1 == tile.rows ? next : MemoryRange{}});
    };
    // Rows on the diagonal: what all rows of a group see together, then the rest of each row alone.
    const int64_t all = tile.first_seeing(j + count - 1);
    const int64_t group =
        tile.heads < kDiagonalVectors ? kDiagonalVectors / static_cast<int32_t>(tile.heads) : 1;
    for (int64_t r = tile.first_seeing(j); r < all; r += group) {
      const int64_t last = std::min(r + group, all);
      const int64_t common = tile.position + r + 1 - j;
      add(r, last, 0, common);
      for (int64_t i = r + 1; i < last; ++i) add(i, i + 1, common, tile.position + i + 1 - j);
    }
    if (all < tile.rows) add(all, tile.rows, 0, count);
  }
}

}  // namespace

int64_t TileScratch::floats(int64_t vectors, int64_t d) {
  return vectors * padded(d) + vectors * kScoresStride + kStep * padded(d) + 2 * Partial::floats(vectors, d);
}

TileScratch TileScratch::at(float* memory, int64_t vectors, int64_t d) {
  TileScratch out;
  out.queries = memory;
  out.scores = out.queries + vectors * padded(d);
  out.step = out.scores + vectors * kScoresStride;
  float* rest = out.step + kStep * padded(d);
  out.total = Partial::at(rest, vectors, d);
  out.piece = Partial::at(rest + Partial::floats(vectors, d), vectors, d);
  return out;
}

void attend_piece(const VectorKernels& kernels, const CacheHead& cache, const TileRows& tile, int64_t index,
                  const TileScratch& scratch, const Partial& result, const MemoryRange& then) {
  const int64_t begin = index * kPiece;
  const int64_t end = std::min(begin + kPiece, tile.positions());
  if (begin >= end) return;
  scores_of(kernels, cache, tile, begin, end, scratch);
  for (int64_t r = tile.first_seeing(begin); r < tile.rows; ++r) {
    const int64_t count = std::min(end, tile.position + r + 1) - begin;
    const int64_t i = r * tile.heads;
    float* scores = scratch.scores + i * kScoresStride;
    if (cache.key_scales) multiply_scores(kernels, scores, tile.heads, count, cache.key_scales + begin);
    kernels.softmax(scores, kScoresStride, tile.heads, count, result.states + i);
    if (cache.value_scales) multiply_scores(kernels, scores, tile.heads, count, cache.value_scales + begin);
  }
  weighted_values(kernels, cache, tile, begin, end, scratch, result.sums, then);
}

MemoryRange first_step(const CacheHead& cache, const TileRows& tile, int64_t index) {
  return step_at(cache.keys, cache, index * kPiece, tile.positions());
}

void join_piece(const VectorKernels& kernels, const TileRows& tile, int64_t d, int64_t index,
                const Partial& total, const Partial& piece) {
  const int64_t stride = padded(d);
  for (int64_t i = tile.first_seeing(index * kPiece) * tile.heads; i < tile.vectors(); ++i) {
    kernels.softmax_merge(total.sums + i * stride, total.states + i, piece.sums + i * stride,
                          piece.states + i, stride);
  }
}

}  // namespace mllm::fused
