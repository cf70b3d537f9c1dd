// Which instruction set the kernels use, decided once per process.
#ifndef MINDIR_LLM_BASE_ISA_H_
#define MINDIR_LLM_BASE_ISA_H_

#include <string_view>

namespace mllm {

// In the order of preference. On x86-64 each includes the ones before it, except that AvxVnni and Avx512 do
// not include each other. Amx is the matrix unit for bytes beside Avx512Vnni.
enum class Isa { Generic, Avx2, AvxVnni, Avx512, Avx512Vnni, Amx };

std::string_view isa_name(Isa isa);  // "generic", "avx2", "avxvnni", "avx512", "avx512vnni", "amx"

// True when this build has kernels for it and processor and operating system run them.
bool isa_supported(Isa isa);

// What MINDIR_LLM_ISA asks for, else the widest supported. Throws INVALID_ARGUMENT when the variable names an
// unknown or unsupported instruction set.
Isa current_isa();

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_ISA_H_
