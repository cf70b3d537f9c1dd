// Attention in one pass over the cache with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022):
// scores of a block of positions, a running maximum, and sums that are rescaled when the maximum grows.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"
#include "kernels/fused/vector.h"

namespace mllm::fused {
namespace {

// Positions per block. A block of keys is read once by all query heads and rows of a tile, from the
// first-level cache. Blocks start at multiples of it for every row, so that a row's additions do not depend
// on what shares its tile.
constexpr int64_t kBlock = 32;
// Query vectors (rows times heads of a group) per tile.
constexpr int64_t kTile = 64;

// Work of one thread: some rows of one segment, and the query heads of one KV head that are in [head0,
// head1).
struct Tile {
  const Segment* segment;
  int64_t row0, row1;  // within the segment
  int64_t kv_head;
  int64_t head0, head1;
};

struct Shape {
  int64_t heads, kv_heads, length, d;
  int64_t group() const { return heads / kv_heads; }
};

Shape shape_of(const Dims& q, const Dims& cache) {
  return {q[1] / cache[3], cache[1], cache[2], cache[3]};
}

std::vector<TensorType> infer(const OpArgs& args) {
  const TensorType& q = activation(args, 0);
  const TensorType& cache = args.type(1);
  if (!is_float_weight(cache.dtype) || cache.dims.size() != 4 || !(args.type(2) == cache)) {
    args.invalid("key and value cache must be float [slots, heads, positions, size] of one type");
  }
  for (const int64_t dim : cache.dims) {
    if (dim < 1) args.invalid("an empty cache");
  }
  if (q.dims[1] % cache.dims[3] != 0 || q.dims[1] / cache.dims[3] % cache.dims[1] != 0) {
    args.invalid(std::to_string(q.dims[1]) + " query features do not fit a cache " + dims_text(cache.dims));
  }
  args.attribute_float("scale");
  return {q};
}

std::vector<Tile> cut(const RunContext& context, const Shape& shape) {
  std::vector<Tile> tiles;
  const int64_t heads_per_tile = std::min(shape.group(), kTile);
  const int64_t rows_per_tile = std::max<int64_t>(1, kTile / 4 / heads_per_tile);
  for (const Segment& s : context.segments) {
    // Later rows see more positions: hand those out first, so that threads end together.
    for (int64_t end = s.n; end > 0; end -= rows_per_tile) {
      for (int64_t kv = 0; kv < shape.kv_heads; ++kv) {
        for (int64_t h = kv * shape.group(); h < (kv + 1) * shape.group(); h += heads_per_tile) {
          tiles.push_back({&s, std::max<int64_t>(0, end - rows_per_tile), end, kv, h,
                           std::min(h + heads_per_tile, (kv + 1) * shape.group())});
        }
      }
    }
  }
  return tiles;
}

struct Softmax {
  float maximum = -std::numeric_limits<float>::infinity();
  float sum = 0.0f;
};

void run_tile(const Tile& tile, const Shape& shape, const Tensor& q, const Tensor& keys, const Tensor& values,
              const Tensor& y, float scale) {
  const VectorKernels& kernels = vector_kernels();
  const bool is_half = keys.dtype == DType::Float16;
  const auto score = is_half ? kernels.scores_f16 : kernels.scores_f32;
  const auto accumulate = is_half ? kernels.accumulate_f16 : kernels.accumulate_f32;
  const auto size = static_cast<int64_t>(dtype_size(keys.dtype));
  const Segment& s = *tile.segment;
  const int64_t cache_offset = (s.slot * shape.kv_heads + tile.kv_head) * shape.length * shape.d * size;
  const auto* k = keys.as<const uint8_t>() + cache_offset;
  const auto* v = values.as<const uint8_t>() + cache_offset;
  const int64_t heads = tile.head1 - tile.head0;
  const int64_t features = shape.heads * shape.d;
  std::array<Softmax, kTile> states;
  states.fill({});
  for (int64_t r = tile.row0; r < tile.row1; ++r) {
    float* out = y.as<float>() + (s.row0 + r) * features + tile.head0 * shape.d;
    std::fill_n(out, heads * shape.d, 0.0f);
  }
  const int64_t positions = s.position + tile.row1;
  for (int64_t j = 0; j < positions; j += kBlock) {
    for (int64_t r = tile.row0; r < tile.row1; ++r) {
      const int64_t count = std::min(kBlock, s.position + r + 1 - j);  // causal: up to the row's own position
      if (count <= 0) continue;
      for (int64_t h = 0; h < heads; ++h) {
        Softmax& state = states[static_cast<size_t>((r - tile.row0) * heads + h)];
        const int64_t at = (s.row0 + r) * features + (tile.head0 + h) * shape.d;
        float* out = y.as<float>() + at;
        std::array<float, kBlock> p;
        score(q.as<const float>() + at, k + j * shape.d * size, shape.d, count, shape.d, scale, p.data());
        const float highest = *std::max_element(p.begin(), p.begin() + count);
        if (highest > state.maximum) {
          if (state.sum > 0.0f) {
            const float factor = std::exp(state.maximum - highest);
            kernels.scale(out, factor, shape.d);
            state.sum *= factor;
          }
          state.maximum = highest;
        }
        for (int64_t i = 0; i < count; ++i) {
          float& weight = p[static_cast<size_t>(i)];
          weight = std::exp(weight - state.maximum);
          state.sum += weight;
        }
        accumulate(out, p.data(), v + j * shape.d * size, shape.d, count, shape.d);
      }
    }
  }
  for (int64_t r = tile.row0; r < tile.row1; ++r) {
    for (int64_t h = 0; h < heads; ++h) {
      const Softmax& state = states[static_cast<size_t>((r - tile.row0) * heads + h)];
      kernels.scale(y.as<float>() + (s.row0 + r) * features + (tile.head0 + h) * shape.d, 1.0f / state.sum,
                    shape.d);
    }
  }
}

void run(const OpArgs& args, const RunContext& context) {
  const Node& node = args.node();
  const Tensor& q = context.in(node, 0);
  const Tensor& keys = context.in(node, 1);
  const Tensor& values = context.in(node, 2);
  const Tensor& y = context.out(node, 0);
  const Shape shape = shape_of(q.dims, keys.dims);
  const auto scale = static_cast<float>(args.attribute_float("scale"));
  for (const Segment& s : context.segments) {
    if (s.slot < 0 || s.slot >= keys.dims[0] || s.position < 0 || int64_t{s.position} + s.n > shape.length) {
      fail_internal("attention outside of the cache");
    }
  }
  const std::vector<Tile> tiles = cut(context, shape);
  context.pool.parallel_for(static_cast<int64_t>(tiles.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      run_tile(tiles[static_cast<size_t>(i)], shape, q, keys, values, y, scale);
    }
  });
}

}  // namespace

Operator attention_operator() {
  return {"fused.Attention", infer, run};
}

}  // namespace mllm::fused
