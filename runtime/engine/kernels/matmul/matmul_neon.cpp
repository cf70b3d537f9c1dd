// NEON without instructions for dot products: products of bytes in 16 bits.
#if defined(__aarch64__)
#include "kernels/matmul/lanes_neon.h"

namespace mllm {
namespace {

constexpr bool kDot8KeepsOffset = false;
constexpr bool kDot8IsWide = false;

// Two products fit 16 bits: weights are -128 at least and activations within ±127.
inline VI multiply_add(VI sum, int8x16_t w, int8x16_t a) {
  const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(a));
  return vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(w, a)));
}
inline VI dot8(VI sum, VI weights, int32_t activations) {
  return multiply_add(sum, signed_weights(weights), repeat(activations));
}
// Two products of -128 by -128 do not.
inline VI dot8_wide(VI sum, VI weights, int32_t activations) {
  const int8x16_t w = signed_weights(weights), a = repeat(activations);
  const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(a)));
  return vaddq_s32(sum, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(w, a))));
}
inline VI dot4(VI sum, VI weights, int32_t activations) {
  return multiply_add(sum, vreinterpretq_s8_s32(weights), repeat(activations));
}

}  // namespace
}  // namespace mllm

#include "kernels/matmul/matmul_impl.h"

namespace mllm {

const MatmulKernels& neon_matmul() {
  return kKernels;
}

}  // namespace mllm
#endif
