// The products of bytes of matmul_impl.h with AVX-512 VNNI, after lanes_avx512.h.

namespace mllm {
namespace {

constexpr bool kDot8KeepsOffset = true;
constexpr bool kDot8IsWide = true;

// Written out: around the intrinsic GCC 12 keeps every sum twice, as vector of 32-bit and of 64-bit integers,
// and runs out of registers.
inline VI dot8(VI sum, VI weights, int32_t activations) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(weights), "v"(_mm512_set1_epi32(activations)));
  return sum;
}
inline VI dot8_wide(VI sum, VI weights, int32_t activations) {
  return dot8(sum, weights, activations);
}
inline VI dot4(VI sum, VI weights, int32_t activations) {
  return dot8(sum, weights, activations);
}

}  // namespace
}  // namespace mllm
