// AVX2 with AVX-VNNI (client processors from 2021 on): four products of bytes per 32-bit lane and
// instruction.
#if defined(__x86_64__)
#include "kernels/matmul/lanes_avx2.h"

namespace mllm {
namespace {

constexpr bool kDot8KeepsOffset = true;

inline VI dot8(VI sum, VI weights, int32_t activations) {
  return _mm256_dpbusd_avx_epi32(sum, weights, _mm256_set1_epi32(activations));
}
inline VI dot4(VI sum, VI weights, int32_t activations) {
  return _mm256_dpbusd_avx_epi32(sum, weights, _mm256_set1_epi32(activations));
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
