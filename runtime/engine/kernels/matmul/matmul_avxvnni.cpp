// AVX2 with AVX-VNNI (client processors from 2021 on): four products of bytes per 32-bit lane and
// instruction.
#if defined(__x86_64__)
#include "kernels/matmul/lanes_avx2.h"

namespace mllm {
namespace {

constexpr bool kDot8KeepsOffset = true;
constexpr bool kDot8IsWide = true;

// Written out, as in dot_avx512vnni.h.
inline VI dot8(VI sum, VI weights, int32_t activations) {
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(weights), "x"(_mm256_set1_epi32(activations)));
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

#include "kernels/matmul/matmul_impl.h"

namespace mllm {

const MatmulKernels& avxvnni_matmul() {
  return kKernels;
}

}  // namespace mllm
#endif
