// The loops behind VectorKernels, written once over a small vector type. A file that includes this first
// defines, in an unnamed namespace:
//   V, kLanes             a vector of kLanes floats
//   zero(), splat(f), load(const float*|uint16_t*|int8_t*), load_part(same, count), store(float*, V),
//   store_part(float*, V, count), fma(a, b, c) = a*b+c, mul(a, b), sum(V) in a fixed order
//   store_half(uint16_t*, V), store_half_part(uint16_t*, V, count)
// and what exp_impl.h and attention_impl.h list, which are part of this file.
// No include guard is needed: each instruction set's file includes it exactly once. Everything stays in the
// unnamed namespace, so that the linker cannot mix versions.

namespace mllm {
namespace {

float dot(const float* a, const float* b, int64_t size) {
  V acc = zero();
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) acc = fma(load(a + i), load(b + i), acc);
  if (i < size) acc = fma(load_part(a + i, size - i), load_part(b + i, size - i), acc);
  return sum(acc);
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
