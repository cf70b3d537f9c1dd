// The portable version for 32-bit ARM with fused multiply-add: the same bits as on other machines. Of NEON it
// has the integers: its floats are not IEEE's (numbers below 2^-126 count as 0), and GCC leaves them alone.
#include "base/isa.h"
#if MLLM_HAS_VFPV4
#include "kernels/matmul/lanes_portable.h"
#include "kernels/matmul/matmul_impl.h"

namespace mllm {

const MatmulKernels& vfpv4_matmul() {
  return kKernels;
}

}  // namespace mllm
#endif
