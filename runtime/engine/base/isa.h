// Which instruction set the kernels use, decided once per process.
#ifndef MINDIR_LLM_BASE_ISA_H_
#define MINDIR_LLM_BASE_ISA_H_

#include <string_view>

// Whether this build has kernels for Vfpv4: builds for older processors have none, nor do those without
// registers for floats.
#if defined(__arm__) && __ARM_ARCH >= 7 && defined(__ARM_FP)
#define MLLM_HAS_VFPV4 1
#else
#define MLLM_HAS_VFPV4 0
#endif

namespace mllm {

// In the order of preference within a family. On x86-64 each includes the ones before it, except that AvxVnni
// and Avx512 do not include each other. Amx is the matrix unit for bytes beside Avx512Vnni. On 64-bit ARM
// NeonDot has dot products of bytes, and NeonI8mm products of small matrices of bytes beside them. Vfpv4 is
// what 32-bit ARM needs for the text of the others: a fused multiply-add.
enum class Isa { Generic, Avx2, AvxVnni, Avx512, Avx512Vnni, Amx, Neon, NeonDot, NeonI8mm, Vfpv4 };

inline constexpr Isa kAllIsas[] = {Isa::Generic, Isa::Avx2, Isa::AvxVnni, Isa::Avx512,   Isa::Avx512Vnni,
                                   Isa::Amx,     Isa::Neon, Isa::NeonDot, Isa::NeonI8mm, Isa::Vfpv4};

std::string_view isa_name(Isa isa);  // the enumerator in lower case: "generic", "avx2", …

// True when this build has kernels for it and processor and operating system run them.
bool isa_supported(Isa isa);

// What MINDIR_LLM_ISA asks for, else the widest supported. Throws INVALID_ARGUMENT when the variable names an
// unknown or unsupported instruction set.
Isa current_isa();

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_ISA_H_
