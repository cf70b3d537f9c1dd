// Which instruction set the kernels use, decided once per process.
#ifndef MINDIR_LLM_BASE_ISA_H_
#define MINDIR_LLM_BASE_ISA_H_

#include <string_view>

namespace mllm {

enum class Isa { Generic, Avx2, Avx512 };

std::string_view isa_name(Isa isa);  // "generic", "avx2", "avx512"

// True when this build has kernels for it and processor and operating system run them.
bool isa_supported(Isa isa);

// What MINDIR_LLM_ISA asks for, else the widest supported. Throws INVALID_ARGUMENT when the variable names an
// unknown or unsupported instruction set.
Isa current_isa();

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_ISA_H_
