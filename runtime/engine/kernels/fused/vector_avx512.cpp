// AVX-512 F, BW, VL, DQ.
#if defined(__x86_64__)
// The intrinsics of GCC 12 start from "undefined" vectors, which it then reports as our mistake (GCC bug
// 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>

#include "kernels/fused/vector.h"

namespace mllm {
namespace {

using V = __m512;
constexpr int64_t kLanes = 16;

inline __mmask16 first(int64_t count) {
  return static_cast<__mmask16>((1u << count) - 1);
}
inline V splat(float f) {
  return _mm512_set1_ps(f);
}
inline V zero() {
  return _mm512_setzero_ps();
}
inline V load(const float* p) {
  return _mm512_loadu_ps(p);
}
inline V load(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline V load_part(const float* p, int64_t count) {
  return _mm512_maskz_loadu_ps(first(count), p);
}
inline V load_part(const uint16_t* p, int64_t count) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(count), p));
}
inline void store(float* p, V v) {
  _mm512_storeu_ps(p, v);
}
inline void store_part(float* p, V v, int64_t count) {
  _mm512_mask_storeu_ps(p, first(count), v);
}
inline __m256i halves(V v) {
  return _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline void store_half(uint16_t* p, V v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), halves(v));
}
inline void store_half_part(uint16_t* p, V v, int64_t count) {
  _mm256_mask_storeu_epi16(p, first(count), halves(v));
}
inline V fma(V a, V b, V c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline V mul(V a, V b) {
  return _mm512_mul_ps(a, b);
}
inline float sum(V v) {
  return _mm512_reduce_add_ps(v);
}

}  // namespace
}  // namespace mllm

#include "kernels/fused/vector_impl.h"

namespace mllm {

const VectorKernels& avx512_kernels() {
  return kKernels;
}

}  // namespace mllm
#endif
