// The loops behind VectorKernels, written once over a small vector type. A file that includes this first
// defines, in an unnamed namespace:
//   V, kLanes             a vector of kLanes floats
//   zero(), splat(f), load(const float*|uint16_t*), load_part(same, count), store(float*, V),
//   store_part(float*, V, count), fma(a, b, c) = a*b+c, mul(a, b), sum(V) in a fixed order
//   store_half(uint16_t*, V), store_half_part(uint16_t*, V, count)
// No include guard is needed: each instruction set's file includes it exactly once. Everything stays in the
// unnamed namespace, so that the linker cannot mix versions.

namespace mllm {
namespace {

template <class T, int N>
void dots(const float* a, const T* b, int64_t stride, int64_t size, float factor, float* out) {
  V acc[N];
  for (int n = 0; n < N; ++n) acc[n] = zero();
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    const V av = load(a + i);
    for (int n = 0; n < N; ++n) acc[n] = fma(av, load(b + n * stride + i), acc[n]);
  }
  if (i < size) {
    const V av = load_part(a + i, size - i);
    for (int n = 0; n < N; ++n) acc[n] = fma(av, load_part(b + n * stride + i, size - i), acc[n]);
  }
  for (int n = 0; n < N; ++n) out[n] = factor * sum(acc[n]);
}

float dot(const float* a, const float* b, int64_t size) {
  float out;
  dots<float, 1>(a, b, 0, size, 1.0f, &out);
  return out;
}

template <class T>
void scores(const float* query, const void* keys, int64_t stride, int64_t count, int64_t size, float factor,
            float* out) {
  const T* k = static_cast<const T*>(keys);
  int64_t j = 0;
  for (; j + 4 <= count; j += 4) dots<T, 4>(query, k + j * stride, stride, size, factor, out + j);
  for (; j < count; ++j) dots<T, 1>(query, k + j * stride, stride, size, factor, out + j);
}

template <class T, int N>
void accumulate_lanes(float* y, const float* weights, const T* values, int64_t stride, int64_t count) {
  V acc[N];
  for (int n = 0; n < N; ++n) acc[n] = load(y + n * kLanes);
  for (int64_t j = 0; j < count; ++j) {
    const V p = splat(weights[j]);
    for (int n = 0; n < N; ++n) acc[n] = fma(p, load(values + j * stride + n * kLanes), acc[n]);
  }
  for (int n = 0; n < N; ++n) store(y + n * kLanes, acc[n]);
}

template <class T>
void accumulate(float* y, const float* weights, const void* values, int64_t stride, int64_t count,
                int64_t size) {
  const T* v = static_cast<const T*>(values);
  int64_t i = 0;
  for (; i + 4 * kLanes <= size; i += 4 * kLanes)
    accumulate_lanes<T, 4>(y + i, weights, v + i, stride, count);
  for (; i + kLanes <= size; i += kLanes) accumulate_lanes<T, 1>(y + i, weights, v + i, stride, count);
  if (i < size) {
    const int64_t rest = size - i;
    V acc = load_part(y + i, rest);
    for (int64_t j = 0; j < count; ++j)
      acc = fma(splat(weights[j]), load_part(v + j * stride + i, rest), acc);
    store_part(y + i, acc, rest);
  }
}

void scale(float* y, float factor, int64_t size) {
  const V f = splat(factor);
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(y + i, mul(load(y + i), f));
  if (i < size) store_part(y + i, mul(load_part(y + i, size - i), f), size - i);
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

void from_f16(const uint16_t* x, float* y, int64_t size) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) store(y + i, load(x + i));
  if (i < size) store_part(y + i, load_part(x + i, size - i), size - i);
}

constexpr VectorKernels kKernels = {
    dot,    scale,    multiply, scores<float>, scores<uint16_t>, accumulate<float>, accumulate<uint16_t>,
    to_f16, from_f16,
};

}  // namespace
}  // namespace mllm
