// The loops behind VectorKernels, written once over a small vector type. A file that includes this first
// defines, in an unnamed namespace:
//   V, kLanes             a vector of kLanes floats
//   zero(), splat(f), load(const float*|uint16_t*|int8_t*), load_part(same, count), store(float*, V),
//   store_part(float*, V, count), fma(a, b, c) = a*b+c, mul(a, b), sum(V): the upper half is added to
//   the lower one, and so on
//   store_half(uint16_t*, V), store_half_part(uint16_t*, V, count)
// and what exp_impl.h and attention_impl.h list, which are part of this file.
// No include guard is needed: each instruction set's file includes it exactly once. Everything stays in the
// unnamed namespace, so that the linker cannot mix versions.

namespace mllm {
namespace {

// Sums over many numbers are kSumLanes chains of additions, however many of them a vector holds, which are
// joined by halves: the same bits with every instruction set that has an fma.
constexpr int64_t kSumLanes = kProductColumns;
constexpr int64_t kSumVectors = kSumLanes / kLanes;

inline float join_chains(V* chains) {
  for (int64_t n = kSumVectors / 2; n > 0; n /= 2) {
    for (int64_t i = 0; i < n; ++i) chains[i] = add(chains[i], chains[i + n]);
  }
  return sum(chains[0]);
}

float dot(const float* a, const float* b, int64_t size) {
  V chains[kSumVectors];
  for (V& one : chains) one = zero();
  int64_t i = 0;
  for (; i + kSumLanes <= size; i += kSumLanes) {
#pragma GCC unroll 4
    for (int64_t n = 0; n < kSumVectors; ++n)
      chains[n] = fma(load(a + i + n * kLanes), load(b + i + n * kLanes), chains[n]);
  }
  for (int64_t n = 0; i < size; ++n, i += kLanes) {
    const int64_t rest = size - i < kLanes ? size - i : kLanes;
    chains[n] = fma(load_part(a + i, rest), load_part(b + i, rest), chains[n]);
  }
  return join_chains(chains);
}

void multiply(const float* a, float factor, const float* b, float* y, int64_t size) {
  const V f = splat(factor);
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(y + i, mul(mul(load(a + i), f), load(b + i)));
  if (i < size) {
    const int64_t rest = size - i;
    store_part(y + i, mul(mul(load_part(a + i, rest), f), load_part(b + i, rest)), rest);
  }
}

void to_f16(const float* x, uint16_t* y, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store_half(y + i, load(x + i));
  if (i < size) store_half_part(y + i, load_part(x + i, size - i), size - i);
}

template <class T>
void widen(const T* x, float* y, int64_t size) {
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
    dot,
    multiply,
    to_f16,
    widen<uint16_t>,
    widen<int8_t>,
    exp_all,
    swiglu_all,
    scale_to,
    product,
    transpose_rows<float>,
    transpose_rows<uint16_t>,
    transpose_rows<int8_t>,
    softmax,
    softmax_merge,
};

}  // namespace
}  // namespace mllm
