// The portable version for 32-bit ARM with fused multiply-add.
#include "base/isa.h"
#if MLLM_HAS_VFPV4
#include "kernels/fused/lanes_portable.h"
#include "kernels/fused/vector_impl.h"

namespace mllm {

const VectorKernels& vfpv4_kernels() {
  return kKernels;
}

}  // namespace mllm
#endif
