// The vector type of vector_impl.h with AVX-512 F, BW, VL, DQ: that of products, and what attention and
// elementwise operators need beyond. Included once per file, which must be compiled for them; everything
// stays in its unnamed namespace.

#include "kernels/fused/vector.h"
#include "kernels/matmul/lanes_avx512.h"

namespace mllm {
namespace {

constexpr int kProductRows = 6;  // likewise 6 x 4 accumulators, 4 vectors of b, 1 number of a
constexpr int kProductVectors = 4;

inline __mmask16 first(int64_t count) {
  return static_cast<__mmask16>((1u << count) - 1);
}
inline V load_part(const float* p, int64_t count) {
  return _mm512_maskz_loadu_ps(first(count), p);
}
inline V load_part(const uint16_t* p, int64_t count) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(count), p));
}
inline V load_part(const int8_t* p, int64_t count) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first(count), p)));
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
// Written out: compilers add up in orders of their own.
inline float sum(V v) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  __m128 x = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  x = _mm_add_ps(x, _mm_movehl_ps(x, x));
  return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}
inline V sub(V a, V b) {
  return _mm512_sub_ps(a, b);
}
inline V div(V a, V b) {
  return _mm512_div_ps(a, b);
}
inline V max(V a, V b) {
  return _mm512_max_ps(a, b);
}
inline float highest(V v) {
  return _mm512_reduce_max_ps(v);
}
inline V where_less(V a, V b, V yes, V no) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
inline V add_exponent(V p, V t) {
  return _mm512_castsi512_ps(
      _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}
inline V unpack_pairs_low(V a, V b) {
  return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
inline V unpack_pairs_high(V a, V b) {
  return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}
inline void transpose(V* r) {
  // 4 x 4 blocks within the 128-bit lanes: then vector 4g + c holds column 4L + c of rows 4g ... 4g + 3 in
  // lane L.
#pragma GCC unroll 4
  for (int g = 0; g < 16; g += 4) {
    const V a = _mm512_unpacklo_ps(r[g], r[g + 1]);
    const V b = _mm512_unpackhi_ps(r[g], r[g + 1]);
    const V c = _mm512_unpacklo_ps(r[g + 2], r[g + 3]);
    const V d = _mm512_unpackhi_ps(r[g + 2], r[g + 3]);
    r[g] = unpack_pairs_low(a, c);
    r[g + 1] = unpack_pairs_high(a, c);
    r[g + 2] = unpack_pairs_low(b, d);
    r[g + 3] = unpack_pairs_high(b, d);
  }
  // Then the lanes: 0x88 takes the even ones of both operands, 0xdd the odd ones.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    const V even_low = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88);
    const V even_high = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
    const V odd_low = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
    const V odd_high = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
    r[c] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    r[4 + c] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    r[8 + c] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
    r[12 + c] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
  }
}
inline void load_transposed(const float* rows, int64_t stride, V* out) {
#pragma GCC unroll 16
  for (int r = 0; r < kLanes; ++r) out[r] = load(rows + r * stride);
  transpose(out);
}
// Halves are turned as they are: half as many shuffles.
inline void load_transposed(const uint16_t* rows, int64_t stride, V* out) {
  __m512i r[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const auto* low = reinterpret_cast<const __m256i*>(rows + i * stride);
    const auto* high = reinterpret_cast<const __m256i*>(rows + (i + 8) * stride);
    r[i] = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256(low)), _mm256_loadu_si256(high), 1);
  }
  __m512i s[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    s[i] = _mm512_unpacklo_epi16(r[i], r[i + 1]);
    s[i + 1] = _mm512_unpackhi_epi16(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm512_unpacklo_epi32(s[i], s[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi32(s[i], s[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi32(s[i + 1], s[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi32(s[i + 1], s[i + 3]);
  }
  // Now r[i] and r[4 + i] hold columns 2i and 2i + 1 of rows 0-3, 8-11 and 4-7, 12-15. Joined, a column c is
  // in 128-bit lanes 0 and 2, and column c + 8 in lanes 1 and 3.
  alignas(64) uint16_t columns[8][2 * kLanes];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512i even = _mm512_unpacklo_epi64(r[i], r[4 + i]);
    const __m512i odd = _mm512_unpackhi_epi64(r[i], r[4 + i]);
    _mm512_store_si512(columns[2 * i], _mm512_shuffle_i64x2(even, even, _MM_SHUFFLE(3, 1, 2, 0)));
    _mm512_store_si512(columns[2 * i + 1], _mm512_shuffle_i64x2(odd, odd, _MM_SHUFFLE(3, 1, 2, 0)));
  }
  // Converted from memory a half needs no shuffle; the compiler would keep it in registers, where it needs
  // two.
  asm("" : "+m"(columns));
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    out[i] = load(columns[i]);
    out[i + 8] = load(columns[i] + kLanes);
  }
}
// Bytes are turned as they are: a quarter of the shuffles.
inline void load_transposed(const int8_t* rows, int64_t stride, V* out) {
  // r[k] holds row 4L + k in 128-bit lane L.
  __m512i r[4];
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) {
    const auto row = [&](int lane) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows + (4 * lane + k) * stride));
    };
    __m512i v = _mm512_castsi128_si512(row(0));
    v = _mm512_inserti32x4(v, row(1), 1);
    v = _mm512_inserti32x4(v, row(2), 2);
    r[k] = _mm512_inserti32x4(v, row(3), 3);
  }
  const __m512i low_a = _mm512_unpacklo_epi8(r[0], r[1]);
  const __m512i high_a = _mm512_unpackhi_epi8(r[0], r[1]);
  const __m512i low_b = _mm512_unpacklo_epi8(r[2], r[3]);
  const __m512i high_b = _mm512_unpackhi_epi8(r[2], r[3]);
  // Now four bytes of a column stand together, the columns 4k … 4k + 3 in lane L being those of rows 4L … 4L
  // + 3.
  r[0] = _mm512_unpacklo_epi16(low_a, low_b);
  r[1] = _mm512_unpackhi_epi16(low_a, low_b);
  r[2] = _mm512_unpacklo_epi16(high_a, high_b);
  r[3] = _mm512_unpackhi_epi16(high_a, high_b);
  const __m512i lanes_to_columns = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  alignas(64) int8_t columns[kLanes][kLanes];
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k)
    _mm512_store_si512(columns[4 * k], _mm512_permutexvar_epi32(lanes_to_columns, r[k]));
  // As with halves.
  asm("" : "+m"(columns));
#pragma GCC unroll 16
  for (int c = 0; c < kLanes; ++c) out[c] = load(columns[c]);
}

}  // namespace
}  // namespace mllm
