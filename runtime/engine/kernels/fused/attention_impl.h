// The inner loops of attention, written once over the vector type of vector_impl.h (see there), which
// includes this. Beyond what exp_impl.h needs there must be:
//   max(a, b)           a > b ? a : b for each lane, so that a NaN in a loses
//   highest(V)          the greatest lane, of numbers
//   transpose(V[kLanes])
//   load_transposed(const float*|uint16_t*|int8_t* rows, stride, V[kLanes])  the columns of kLanes rows
//   kProductRows, kProductVectors  the register tile of a product

#include "kernels/fused/exp_impl.h"

namespace mllm {
namespace {

// Brings memory to the cache in even steps: the processor can wait for some 16 lines at once, and has nothing
// else to do when more are asked for; and while none is asked for, the memory has nothing to do.
class Ahead {
 public:
  // For so many calls of step(), each of which asks for 2 lines at most. Divided in 32 bits: many processors
  // take 90 cycles for 64.
  Ahead(MemoryRange range, int64_t steps, const void* elsewhere)
      : at_(static_cast<const char*>(range.bytes > 0 ? range.data : elsewhere)),
        stride_(static_cast<uint32_t>(range.bytes) / static_cast<uint32_t>(steps)) {}
  void step() {
    __builtin_prefetch(at_);
    __builtin_prefetch(at_ + stride_ / 2);
    at_ += stride_;
  }

 private:
  const char* at_;
  int64_t stride_;
};

// R x N vectors of outputs. Each lane is one chain of additions over k, whatever the tile.
template <int R, int N>
void product_tile(const ProductBlock& block, int64_t r0, int64_t n0, Ahead& shared) {
  Ahead ahead = shared;
  const float* a = block.a + r0 * block.a_stride;
  const float* b = block.b + n0;
  float* c = block.c + r0 * block.c_stride + n0;
  const int64_t a_stride = block.a_stride;
  V acc[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) {
      acc[r][n] = block.accumulate ? load(c + r * block.c_stride + n * kLanes) : zero();
    }
  }
  // A loop that the compiler knows to run: else it keeps all sums in memory as well.
  int64_t i = 0;
  do {
    ahead.step();
    V bv[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) bv[n] = load(b + n * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const V av = splat(a[r * a_stride + i]);
#pragma GCC unroll 8
      for (int n = 0; n < N; ++n) acc[r][n] = fma(av, bv[n], acc[r][n]);
    }
    b += block.b_stride;
  } while (++i < block.k);
  shared = ahead;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n) store(c + r * block.c_stride + n * kLanes, acc[r][n]);
  }
}

// Rows in tiles of equal height as far as possible: 8 rows are 4 + 4, not 6 + 2, which leaves too few chains
// to hide the latency of an fma.
template <int N>
void product_columns(const ProductBlock& block, int64_t n0, Ahead& ahead) {
  const auto tiles = static_cast<uint32_t>((block.rows + kProductRows - 1) / kProductRows);
  const uint32_t low = static_cast<uint32_t>(block.rows) / tiles;
  const uint32_t higher = static_cast<uint32_t>(block.rows) % tiles;
  int64_t r0 = 0;
  for (uint32_t t = 0; t < tiles; ++t) {
    const uint32_t rows = low + (t < higher ? 1 : 0);
    switch (rows) {
      case 1:
        product_tile<1, N>(block, r0, n0, ahead);
        break;
      case 2:
        product_tile<2, N>(block, r0, n0, ahead);
        break;
      case 3:
        product_tile<3, N>(block, r0, n0, ahead);
        break;
      case 4:
        product_tile<4, N>(block, r0, n0, ahead);
        break;
      default:
        if constexpr (kProductRows > 4) {
          if (rows == 5) {
            product_tile<5, N>(block, r0, n0, ahead);
          } else {
            product_tile<6, N>(block, r0, n0, ahead);
          }
        }
    }
    r0 += rows;
  }
}

void product(const ProductBlock& block) {
  const int64_t columns = kProductVectors * kLanes;
  const int64_t panels = block.n / columns + block.n % columns / kLanes;
  const int64_t tiles = (block.rows + kProductRows - 1) / kProductRows;
  Ahead ahead(block.next, panels * tiles * block.k, block.a);
  int64_t n = 0;
  for (; n + columns <= block.n; n += columns) {
    product_columns<kProductVectors>(block, n, ahead);
  }
  for (; n < block.n; n += kLanes) product_columns<1>(block, n, ahead);
}

template <class T>
void transpose_rows(const void* rows, int64_t count, int64_t size, float* y, MemoryRange next) {
  const T* x = static_cast<const T*>(rows);
  const int64_t whole = (count + kProductColumns - 1) / kProductColumns * kProductColumns;
  // While a block of lanes by lanes is read, up to half as much is asked for: with float32, lanes / 2 lines.
  const int64_t blocks = whole / kLanes * ((size + kLanes - 1) / kLanes);
  Ahead ahead(next, blocks * kLanes / 4, rows);
  for (int64_t j = 0; j < whole; j += kLanes) {
    for (int64_t i = 0; i < size; i += kLanes) {
      float* to = y + i * kTransposedStride + j;
      for (int r = 0; r < kLanes; r += 4) ahead.step();
      V tile[kLanes];
      if (j + kLanes <= count && i + kLanes <= size) {
        load_transposed(x + j * size + i, size, tile);
#pragma GCC unroll 16
        for (int r = 0; r < kLanes; ++r) store(to + r * kTransposedStride, tile[r]);
      } else {
        const int64_t width = size - i < kLanes ? size - i : kLanes;
        for (int r = 0; r < kLanes; ++r) {
          tile[r] = j + r < count ? load_part(x + (j + r) * size + i, width) : zero();
        }
        transpose(tile);
        for (int r = 0; r < width; ++r) store(to + r * kTransposedStride, tile[r]);
      }
    }
  }
}

inline float first_lane(V v) {
  float lanes[kLanes];
  store(lanes, v);
  return lanes[0];
}

// What to subtract before exp: where all scores are -infinity, any number gives the weight 0 they deserve,
// and -infinity would give NaN.
inline float offset(float maximum) {
  return maximum == -__builtin_inff() ? 0.0f : maximum;
}

// The maxima of all rows come first, so that waiting for one overlaps with work for others.
void softmax(float* scores, int64_t stride, int64_t rows, int64_t count, SoftmaxState* states) {
  const V lowest = splat(-__builtin_inff());
  const int64_t padded = (count + kSumLanes - 1) / kSumLanes * kSumLanes;
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * stride;
    for (int64_t j = count; j < padded; ++j) row[j] = -__builtin_inff();
    V m[4] = {lowest, lowest, lowest, lowest};
    int64_t j = 0;
    for (; j + 4 * kLanes <= padded; j += 4 * kLanes) {
      for (int i = 0; i < 4; ++i) m[i] = max(load(row + j + i * kLanes), m[i]);
    }
    for (; j < padded; j += kLanes) m[0] = max(load(row + j), m[0]);
    states[r].maximum = highest(max(max(m[0], m[1]), max(m[2], m[3])));
  }
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * stride;
    const V subtract = splat(offset(states[r].maximum));
    V chains[kSumVectors];
    for (V& one : chains) one = zero();
    for (int64_t j = 0; j < padded; j += kSumLanes) {
#pragma GCC unroll 4
      for (int64_t n = 0; n < kSumVectors; ++n) {
        const V p = exp(sub(load(row + j + n * kLanes), subtract));
        store(row + j + n * kLanes, p);
        chains[n] = add(chains[n], p);
      }
    }
    states[r].sum = join_chains(chains);
  }
}

void softmax_merge(float* y, SoftmaxState* state, const float* x, const SoftmaxState* other, int64_t size) {
  const float maximum = other->maximum > state->maximum ? other->maximum : state->maximum;
  const V y_factor = exp(splat(state->maximum - offset(maximum)));
  const V x_factor = exp(splat(other->maximum - offset(maximum)));
  for (int64_t i = 0; i < size; i += kLanes) {
    store(y + i, fma(load(y + i), y_factor, mul(load(x + i), x_factor)));
  }
  state->maximum = maximum;
  state->sum = first_lane(fma(splat(state->sum), y_factor, mul(splat(other->sum), x_factor)));
}

void scale_to(const float* x, float factor, float* y, int64_t size) {
  const V f = splat(factor);
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(y + i, mul(load(x + i), f));
  if (i < size) store_part(y + i, mul(load_part(x + i, size - i), f), size - i);
}

}  // namespace
}  // namespace mllm
