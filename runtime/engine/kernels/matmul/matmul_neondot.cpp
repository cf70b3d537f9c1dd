// NEON with dot products (ARMv8.2 and later): four products of bytes per 32-bit lane and instruction.
#if defined(__aarch64__)
#include "kernels/matmul/lanes_neon.h"

namespace mllm {
namespace {

constexpr bool kDot8KeepsOffset = false;
constexpr bool kDot8IsWide = true;

inline VI dot8(VI sum, VI weights, int32_t activations) {
  return vdotq_s32(sum, signed_weights(weights), repeat(activations));
}
inline VI dot8_wide(VI sum, VI weights, int32_t activations) {
  return dot8(sum, weights, activations);
}
inline VI dot4(VI sum, VI weights, int32_t activations) {
  return vdotq_s32(sum, vreinterpretq_s8_s32(weights), repeat(activations));
}

}  // namespace
}  // namespace mllm

#include "kernels/matmul/matmul_impl.h"

namespace mllm {

const MatmulKernels& neondot_matmul() {
  return kKernels;
}

}  // namespace mllm
#endif
