#include "kernels/fused/vector.h"

#include "base/isa.h"

namespace mllm {

const VectorKernels& vector_kernels(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::Avx512:
    case Isa::Avx512Vnni:
    case Isa::Amx:
      return avx512_kernels();
    case Isa::Avx2:
    case Isa::AvxVnni:
      return avx2_kernels();
    default:
      break;
  }
#elif defined(__aarch64__)
  switch (isa) {
    case Isa::Neon:
    case Isa::NeonDot:
    case Isa::NeonI8mm:
      return neon_kernels();
    default:
      break;
  }
#elif MLLM_HAS_VFPV4
  if (isa == Isa::Vfpv4) return vfpv4_kernels();
#endif
  (void)isa;
  return generic_kernels();
}

const VectorKernels& vector_kernels() {
  static const VectorKernels& chosen = vector_kernels(current_isa());
  return chosen;
}

}  // namespace mllm
