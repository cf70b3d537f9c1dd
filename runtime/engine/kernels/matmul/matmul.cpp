#include "kernels/matmul/matmul.h"

#include <algorithm>

#include "base/isa.h"

namespace mllm {

int64_t tile_size(int64_t largest, int64_t left) {
  if (largest == 16) return 16;  // a matrix unit's tiles are padded
  if (left >= largest) return largest;
  return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

int64_t panel_scratch_bytes(const WeightView& weights) {
  constexpr int64_t kLine = 64;
  if (weights.format == WeightFormat::Int8 || weights.format == WeightFormat::Int4) {
    // Unpacked weights, scales and zero points of the integer product; for a matrix unit, a wide span of it
    // and the scales or zero points of all; or one dequantized group of the float product.
    const int64_t integers = kPanelColumns * (weights.k_padded + weights.groups * 8);
    const int64_t spans = (weights.k_padded + kWideSpan - 1) / kWideSpan;
    const int64_t wide =
        kPanelColumns * (std::min(kWideSpan, weights.k_padded) + kMostPanelsAtOnce * spans * 4);
    const int64_t floats = kPanelColumns * kFloatSpan * 4;
    return std::max({integers, wide, floats}) + kLine;
  }
  return kLine;
}

const MatmulKernels& matmul_kernels(Isa isa, int64_t rows, bool integers) {
#if defined(__x86_64__)
  // A tile of the matrix unit takes as long for one row as for sixteen.
  constexpr int64_t kFewestTileRows = 6;
  switch (isa) {
    case Isa::Amx:
      return integers && rows >= kFewestTileRows ? amx_matmul() : avx512vnni_matmul();
    case Isa::Avx512Vnni:
      return avx512vnni_matmul();
    case Isa::Avx512:
      return avx512_matmul();
    case Isa::AvxVnni:
      return avxvnni_matmul();
    case Isa::Avx2:
      return avx2_matmul();
    default:
      break;
  }
#elif defined(__aarch64__)
  switch (isa) {
    case Isa::NeonI8mm:
      return neoni8mm_matmul();
    case Isa::NeonDot:
      return neondot_matmul();
    case Isa::Neon:
      return neon_matmul();
    default:
      break;
  }
#elif MLLM_HAS_VFPV4
  if (isa == Isa::Vfpv4) return vfpv4_matmul();
#endif
  (void)isa;
  (void)rows;
  (void)integers;
  return generic_matmul();
}

const MatmulKernels& matmul_kernels(int64_t rows, bool integers) {
  return matmul_kernels(current_isa(), rows, integers);
}

const MatmulKernels* wide_kernels(Isa isa, const WeightView& weights) {
  const bool is_int8 = weights.format == WeightFormat::Int8;
  if (weights.format != WeightFormat::Int4 && !is_int8) return nullptr;
  // A matrix unit adds the groups of a narrow span in registers.
  if (isa == Isa::Amx && is_int8 && weights.group_scale != GroupScale::None) return nullptr;
  return matmul_kernels(isa, kFewestPromptRows, true).wide;
}

const MatmulKernels* wide_kernels(const WeightView& weights) {
  return wide_kernels(current_isa(), weights);
}

}  // namespace mllm
