// AVX2 with FMA and F16C.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/fused/vector.h"

namespace mllm {
namespace {

using V = __m256;
constexpr int64_t kLanes = 8;

inline V splat(float f) {
  return _mm256_set1_ps(f);
}
inline V zero() {
  return _mm256_setzero_ps();
}
inline V load(const float* p) {
  return _mm256_loadu_ps(p);
}
inline V load(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
template <class T>
inline V load_part(const T* p, int64_t count) {
  T buffer[kLanes] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = p[i];
  return load(buffer);
}
inline void store(float* p, V v) {
  _mm256_storeu_ps(p, v);
}
inline void store_part(float* p, V v, int64_t count) {
  float buffer[kLanes];
  store(buffer, v);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
}
inline void store_half(uint16_t* p, V v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline void store_half_part(uint16_t* p, V v, int64_t count) {
  uint16_t buffer[kLanes];
  store_half(buffer, v);
  for (int64_t i = 0; i < count; ++i) p[i] = buffer[i];
}
inline V fma(V a, V b, V c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline V mul(V a, V b) {
  return _mm256_mul_ps(a, b);
}
inline float sum(V v) {
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

}  // namespace
}  // namespace mllm

#include "kernels/fused/vector_impl.h"

namespace mllm {

const VectorKernels& avx2_kernels() {
  return kKernels;
}

}  // namespace mllm
#endif
