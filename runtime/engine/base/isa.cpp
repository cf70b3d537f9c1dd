#include "base/isa.h"

#include <cstdlib>
#include <string>

#include "base/error.h"

namespace mllm {
namespace {

constexpr Isa kAll[] = {Isa::Generic, Isa::Avx2, Isa::Avx512};

Isa choose() {
  if (const char* wish = std::getenv("MINDIR_LLM_ISA"); wish != nullptr && *wish != '\0') {
    for (Isa isa : kAll) {
      if (isa_name(isa) != wish) continue;
      if (!isa_supported(isa)) {
        fail_argument("MINDIR_LLM_ISA=" + std::string(wish) + ": this machine does not support it; unset it");
      }
      return isa;
    }
    fail_argument("MINDIR_LLM_ISA=" + std::string(wish) + ": unknown (generic, avx2, avx512)");
  }
  Isa best = Isa::Generic;
  for (Isa isa : kAll) {
    if (isa_supported(isa)) best = isa;
  }
  return best;
}

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::Avx2:
      return "avx2";
    case Isa::Avx512:
      return "avx512";
    case Isa::Generic:
      break;
  }
  return "generic";
}

bool isa_supported(Isa isa) {
  if (isa == Isa::Generic) return true;
#if defined(__x86_64__)
  // The compiler's check covers cpuid and, through xgetbv, what the operating system saves.
  __builtin_cpu_init();
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (isa == Isa::Avx2) return avx2;
  return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
  return false;
#endif
}

Isa current_isa() {
  static const Isa chosen = choose();
  return chosen;
}

}  // namespace mllm
