#include "kernels/fused/attention_matrix.h"

#include "base/isa.h"

namespace mllm {

const MatrixKernels* matrix_attention(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::Amx) return &amx_attention();
#endif
  (void)isa;
  return nullptr;
}

const MatrixKernels* matrix_attention() {
  return matrix_attention(current_isa());
}

}  // namespace mllm
