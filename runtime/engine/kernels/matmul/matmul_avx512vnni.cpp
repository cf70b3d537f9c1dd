// AVX-512 with VNNI: four products of bytes per 32-bit lane and instruction.
#if defined(__x86_64__)
#include "kernels/matmul/lanes_avx512.h"
// clang-format off: the parts build on each other in this order
#include "kernels/matmul/dot_avx512vnni.h"
#include "kernels/matmul/matmul_impl.h"
// clang-format on

namespace mllm {

const MatmulKernels& avx512vnni_matmul() {
  return kKernels;
}

}  // namespace mllm
#endif
