// The loops behind VectorKernels, written once over a small vector type. A file that includes this first
// defines, in an unnamed namespace:
//   V, kLanes             a vector of kLanes floats
//   zero(), splat(f), load(const float*|uint16_t*|int8_t*), load_part(same, count), store(float*, V),
//   store_part(float*, V, count), fma(a, b, c) = a*b+c, mul(a, b), sum(V) in a fixed order
//   kRows                 activation rows of the large tile
//   store_half(uint16_t*, V), store_half_part(uint16_t*, V, count)
// and what exp_impl.h and attention_impl.h list, which are part of this file.
// No include guard is needed: each instruction set's file includes it exactly once. Everything stays in the
// unnamed namespace, so that the linker cannot mix versions.

namespace mllm {
namespace {

constexpr int64_t kWeightRows = 4;

// R x N outputs. Each has one accumulator that runs over k in steps of kLanes: the same additions for every
// tile shape.
template <class W, int R, int N>
void linear_tile(const LinearBlock& block, int64_t r0, int64_t n0) {
  const int64_t k = block.k;
  const float* x = block.x + r0 * k;
  const W* w = static_cast<const W*>(block.weight) + n0 * k;
  V acc[R][N];
  for (int r = 0; r < R; ++r) {
    for (int n = 0; n < N; ++n) acc[r][n] = zero();
  }
  int64_t i = 0;
  for (; i + kLanes <= k; i += kLanes) {
    V wv[N];
    for (int n = 0; n < N; ++n) wv[n] = load(w + n * k + i);
    for (int r = 0; r < R; ++r) {
      const V xv = load(x + r * k + i);
      for (int n = 0; n < N; ++n) acc[r][n] = fma(xv, wv[n], acc[r][n]);
    }
  }
  if (i < k) {
    const int64_t rest = k - i;
    V wv[N];
    for (int n = 0; n < N; ++n) wv[n] = load_part(w + n * k + i, rest);
    for (int r = 0; r < R; ++r) {
      const V xv = load_part(x + r * k + i, rest);
      for (int n = 0; n < N; ++n) acc[r][n] = fma(xv, wv[n], acc[r][n]);
    }
  }
  for (int n = 0; n < N; ++n) {
    const float scale = block.scale ? block.scale[n0 + n] : 1.0f;
    const float bias = block.bias ? block.bias[n0 + n] : 0.0f;
    for (int r = 0; r < R; ++r) block.y[(r0 + r) * block.y_stride + n0 + n] = scale * sum(acc[r][n]) + bias;
  }
}

template <class W, int N>
void linear_columns(const LinearBlock& block, int64_t n0) {
  int64_t r = 0;
  for (; r + kRows <= block.rows; r += kRows) linear_tile<W, kRows, N>(block, r, n0);
  for (; r + 2 <= block.rows; r += 2) linear_tile<W, 2, N>(block, r, n0);
  if (r < block.rows) linear_tile<W, 1, N>(block, r, n0);
}

template <class W>
void linear(const LinearBlock& block) {
  int64_t n = 0;
  for (; n + kWeightRows <= block.n; n += kWeightRows) linear_columns<W, kWeightRows>(block, n);
  for (; n < block.n; ++n) linear_columns<W, 1>(block, n);
}

float dot(const float* a, const float* b, int64_t size) {
  V acc = zero();
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) acc = fma(load(a + i), load(b + i), acc);
  if (i < size) acc = fma(load_part(a + i, size - i), load_part(b + i, size - i), acc);
  return sum(acc);
}

void to_f16(const float* x, uint16_t* y, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store_half(y + i, load(x + i));
  if (i < size) store_half_part(y + i, load_part(x + i, size - i), size - i);
}

void from_f16(const uint16_t* x, float* y, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(y + i, load(x + i));
  if (i < size) store_part(y + i, load_part(x + i, size - i), size - i);
}

}  // namespace
}  // namespace mllm

#include "kernels/fused/attention_impl.h"

namespace mllm {
namespace {

constexpr VectorKernels kKernels = {
    linear<float>,
    linear<uint16_t>,
    linear<int8_t>,
    dot,
    to_f16,
    from_f16,
    exp_all,
    swiglu_all,
    scale_to,
    product,
    transpose_rows<float>,
    transpose_rows<uint16_t>,
    softmax,
    softmax_merge,
};

}  // namespace
}  // namespace mllm
