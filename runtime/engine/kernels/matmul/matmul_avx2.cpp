// AVX2: products of bytes in pairs.
#if defined(__x86_64__)
#include "kernels/matmul/lanes_avx2.h"

namespace mllm {
namespace {

constexpr bool kDot8KeepsOffset = false;
constexpr bool kDot8IsWide = false;

// VPMADDUBSW saturates at 2^15: with weights as magnitudes up to 128 and activations up to 127 a pair stays
// below it.
inline VI dot8(VI sum, VI weights, int32_t activations) {
  const VI w = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
  const VI pairs =
      _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(_mm256_set1_epi32(activations), w));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
// Bytes as 16-bit pairs, even and odd ones apart.
inline VI dot8_wide(VI sum, VI weights, int32_t activations) {
  const VI w = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
  const VI a = _mm256_set1_epi32(activations);
  const VI even = _mm256_madd_epi16(_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8),
                                    _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8));
  const VI odd = _mm256_madd_epi16(_mm256_srai_epi16(w, 8), _mm256_srai_epi16(a, 8));
  return _mm256_add_epi32(sum, _mm256_add_epi32(even, odd));
}
inline VI dot4(VI sum, VI weights, int32_t activations) {
  const VI pairs = _mm256_maddubs_epi16(weights, _mm256_set1_epi32(activations));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

}  // namespace
}  // namespace mllm

#include "kernels/matmul/matmul_impl.h"

namespace mllm {

const MatmulKernels& avx2_matmul() {
  return kKernels;
}

}  // namespace mllm
#endif
