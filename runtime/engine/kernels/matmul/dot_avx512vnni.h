// The products of bytes of matmul_impl.h with AVX-512 VNNI, after lanes_avx512.h.

namespace mllm {
namespace {

constexpr bool kDot8KeepsOffset = true;

inline VI dot8(VI sum, VI weights, int32_t activations) {
  return _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(activations));
}
inline VI dot4(VI sum, VI weights, int32_t activations) {
  return _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(activations));
}

}  // namespace
}  // namespace mllm
