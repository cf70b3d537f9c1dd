#include "kernels/fused/vector.h"

#include "base/isa.h"

namespace mllm {

const VectorKernels& vector_kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::Avx512) return avx512_kernels();
  if (isa == Isa::Avx2) return avx2_kernels();
#endif
  (void)isa;
  return generic_kernels();
}

const VectorKernels& vector_kernels() {
  static const VectorKernels& chosen = vector_kernels(current_isa());
  return chosen;
}

}  // namespace mllm
