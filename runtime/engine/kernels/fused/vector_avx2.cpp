// AVX2 with FMA and F16C.
#if defined(__x86_64__)
#include <immintrin.h>

#include "kernels/fused/vector.h"

namespace mllm {
namespace {

using V = __m256;
constexpr int64_t kLanes = 8;
constexpr int kProductRows = 6;  // 6 x 2 accumulators, 2 vectors of b, 1 number of a
constexpr int kProductVectors = 2;

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
inline V load(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
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
inline V add(V a, V b) {
  return _mm256_add_ps(a, b);
}
inline V sub(V a, V b) {
  return _mm256_sub_ps(a, b);
}
inline V div(V a, V b) {
  return _mm256_div_ps(a, b);
}
inline V max(V a, V b) {
  return _mm256_max_ps(a, b);
}
inline float highest(V v) {
  __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  x = _mm_max_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
inline V where_less(V a, V b, V yes, V no) {
  return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
inline V add_exponent(V p, V t) {
  return _mm256_castsi256_ps(
      _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}
inline void transpose(V* r) {
#pragma GCC unroll 2
  for (int g = 0; g < 8; g += 4) {
    const V a = _mm256_unpacklo_ps(r[g], r[g + 1]);
    const V b = _mm256_unpackhi_ps(r[g], r[g + 1]);
    const V c = _mm256_unpacklo_ps(r[g + 2], r[g + 3]);
    const V d = _mm256_unpackhi_ps(r[g + 2], r[g + 3]);
    r[g] = _mm256_shuffle_ps(a, c, 0x44);
    r[g + 1] = _mm256_shuffle_ps(a, c, 0xee);
    r[g + 2] = _mm256_shuffle_ps(b, d, 0x44);
    r[g + 3] = _mm256_shuffle_ps(b, d, 0xee);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const V low = _mm256_permute2f128_ps(r[c], r[4 + c], 0x20);
    r[4 + c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x31);
    r[c] = low;
  }
}
template <class T>
inline void load_transposed(const T* rows, int64_t stride, V* out) {
#pragma GCC unroll 8
  for (int r = 0; r < kLanes; ++r) out[r] = load(rows + r * stride);
  transpose(out);
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
