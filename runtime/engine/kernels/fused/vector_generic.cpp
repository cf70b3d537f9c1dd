// Portable version.
#include "kernels/fused/lanes_portable.h"
#include "kernels/fused/vector_impl.h"

namespace mllm {

const VectorKernels& generic_kernels() {
  return kKernels;
}

}  // namespace mllm
