// The vector types of matmul_impl.h with AVX-512 F, BW, VL, DQ, on which those of the fused operators build
// (kernels/fused/lanes_avx512.h). Included once per file, which must be
// compiled for them; everything stays in its unnamed namespace.

// The intrinsics of GCC 12 start from "undefined" vectors, which it then reports as our mistake (GCC bug
// 105593).
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "kernels/matmul/matmul.h"

namespace mllm {
namespace {

using V = __m512;
using VI = __m512i;
constexpr int64_t kLanes = 16;
// 12 x 2 accumulators, 2 weights and a broadcast of 32 registers.
constexpr int kRows = 12;
constexpr int kBlocks = 2;

inline V zero() {
  return _mm512_setzero_ps();
}
inline V splat(float f) {
  return _mm512_set1_ps(f);
}
inline V load(const float* p) {
  return _mm512_loadu_ps(p);
}
inline V load(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline V load(const int8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline void store(float* p, V v) {
  _mm512_storeu_ps(p, v);
}
inline void store_part(float* p, V v, int64_t count) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), v);
}
inline V fma(V a, V b, V c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline V mul(V a, V b) {
  return _mm512_mul_ps(a, b);
}
inline V add(V a, V b) {
  return _mm512_add_ps(a, b);
}
inline V absolute(V v) {
  return _mm512_abs_ps(v);
}
inline V maximum(V a, V b) {
  return _mm512_max_ps(a, b);
}
inline float reduce_max(V v) {
  return _mm512_reduce_max_ps(v);
}
inline VI load_bytes(const uint8_t* p) {
  return _mm512_loadu_si512(p);
}
inline void store_bytes(uint8_t* p, VI v) {
  _mm512_storeu_si512(p, v);
}
inline VI splat_int(int32_t i) {
  return _mm512_set1_epi32(i);
}
inline V to_float(VI v) {
  return _mm512_cvtepi32_ps(v);
}
inline VI add_int(VI a, VI b) {
  return _mm512_add_epi32(a, b);
}
inline VI add_bytes(VI a, VI b) {
  return _mm512_add_epi8(a, b);
}
inline VI round_to_int(V v) {
  return _mm512_cvt_roundps_epi32(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline int32_t sum_int(VI v) {
  return _mm512_reduce_add_epi32(v);
}
inline void store_int8(int8_t* p, VI v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(v));
}
inline VI low_nibbles(VI v) {
  return _mm512_and_si512(v, _mm512_set1_epi8(15));
}
inline VI high_nibbles(VI v) {
  return _mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(15));
}
inline VI scale_shorts(VI a, VI b) {
  return _mm512_mulhrs_epi16(a, b);
}
inline V bytes_to_float(VI v, int i) {
  return _mm512_cvtepi32_ps(
      _mm512_and_si512(_mm512_srli_epi32(v, static_cast<unsigned>(8 * i)), _mm512_set1_epi32(255)));
}
// Always inline: GCC 12 takes a function that only prefetches for one without effect and drops calls of it.
__attribute__((always_inline)) inline void prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
}

}  // namespace
}  // namespace mllm
