// Portable version.
#include "kernels/matmul/lanes_portable.h"
#include "kernels/matmul/matmul_impl.h"

namespace mllm {

const MatmulKernels& generic_matmul() {
  return kKernels;
}

}  // namespace mllm
