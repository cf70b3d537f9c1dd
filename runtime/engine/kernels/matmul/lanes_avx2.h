// The vector types of matmul_impl.h with AVX2, FMA and F16C. Included once per file, which must be compiled
// for them; everything stays in its unnamed namespace.
#include <immintrin.h>

#include "kernels/matmul/matmul.h"

namespace mllm {
namespace {

using V = __m256;
using VI = __m256i;
constexpr int64_t kLanes = 8;
// 4 x 2 accumulators of 16 registers; the products of bytes need five more.
constexpr int kRows = 4;
constexpr int kBlocks = 1;

inline V zero() {
  return _mm256_setzero_ps();
}
inline V splat(float f) {
  return _mm256_set1_ps(f);
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
inline void store(float* p, V v) {
  _mm256_storeu_ps(p, v);
}
inline void store_part(float* p, V v, int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane), v);
}
inline V fma(V a, V b, V c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline V mul(V a, V b) {
  return _mm256_mul_ps(a, b);
}
inline V add(V a, V b) {
  return _mm256_add_ps(a, b);
}
inline V absolute(V v) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}
inline V maximum(V a, V b) {
  return _mm256_max_ps(a, b);
}
inline float reduce_max(V v) {
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
inline VI load_bytes(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline void store_bytes(uint8_t* p, VI v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
}
inline VI splat_int(int32_t i) {
  return _mm256_set1_epi32(i);
}
inline V to_float(VI v) {
  return _mm256_cvtepi32_ps(v);
}
inline VI add_int(VI a, VI b) {
  return _mm256_add_epi32(a, b);
}
inline VI add_bytes(VI a, VI b) {
  return _mm256_add_epi8(a, b);
}
inline VI round_to_int(V v) {
  return _mm256_cvtps_epi32(_mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline int32_t sum_int(VI v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
inline void store_int8(int8_t* p, VI v) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
inline VI low_nibbles(VI v) {
  return _mm256_and_si256(v, _mm256_set1_epi8(15));
}
inline VI high_nibbles(VI v) {
  return _mm256_and_si256(_mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
}
inline VI scale_shorts(VI a, VI b) {
  return _mm256_mulhrs_epi16(a, b);
}
inline V bytes_to_float(VI v, int i) {
  return _mm256_cvtepi32_ps(
      _mm256_and_si256(_mm256_srl_epi32(v, _mm_cvtsi32_si128(8 * i)), _mm256_set1_epi32(255)));
}
// Always inline: GCC 12 takes a function that only prefetches for one without effect and drops calls of it.
__attribute__((always_inline)) inline void prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}

}  // namespace
}  // namespace mllm
