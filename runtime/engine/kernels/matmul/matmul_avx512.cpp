// AVX-512 without VNNI: products of bytes in pairs.
#if defined(__x86_64__)
#include "kernels/matmul/lanes_avx512.h"

namespace mllm {
namespace {

constexpr bool kDot8KeepsOffset = false;
constexpr bool kDot8IsWide = false;

// VPMADDUBSW saturates at 2^15: with weights as magnitudes up to 128 and activations up to 127 a pair stays
// below it.
inline VI dot8(VI sum, VI weights, int32_t activations) {
  const VI w = _mm512_xor_si512(weights, _mm512_set1_epi8(-128));
  const VI a = _mm512_set1_epi32(activations);
  const VI signed_a = _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(w), _mm512_setzero_si512(), a);
  const VI pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w), signed_a);
  return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
// Bytes as 16-bit pairs, even and odd ones apart.
inline VI dot8_wide(VI sum, VI weights, int32_t activations) {
  const VI w = _mm512_xor_si512(weights, _mm512_set1_epi8(-128));
  const VI a = _mm512_set1_epi32(activations);
  const VI even = _mm512_madd_epi16(_mm512_srai_epi16(_mm512_slli_epi16(w, 8), 8),
                                    _mm512_srai_epi16(_mm512_slli_epi16(a, 8), 8));
  const VI odd = _mm512_madd_epi16(_mm512_srai_epi16(w, 8), _mm512_srai_epi16(a, 8));
  return _mm512_add_epi32(sum, _mm512_add_epi32(even, odd));
}
inline VI dot4(VI sum, VI weights, int32_t activations) {
  const VI pairs = _mm512_maddubs_epi16(weights, _mm512_set1_epi32(activations));
  return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}

}  // namespace
}  // namespace mllm

#include "kernels/matmul/matmul_impl.h"

namespace mllm {

const MatmulKernels& avx512_matmul() {
  return kKernels;
}

}  // namespace mllm
#endif
