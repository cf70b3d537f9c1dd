// AVX-512 F, BW, VL, DQ.
#if defined(__x86_64__)
// clang-format off: the second builds on the first
#include "kernels/fused/lanes_avx512.h"
#include "kernels/fused/vector_impl.h"
// clang-format on

namespace mllm {

const VectorKernels& avx512_kernels() {
  return kKernels;
}

}  // namespace mllm
#endif
