#include "base/isa.h"

#include <cstdlib>
#include <string>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mllm {
namespace {

constexpr Isa kAll[] = {Isa::Generic, Isa::Avx2, Isa::AvxVnni, Isa::Avx512, Isa::Avx512Vnni, Isa::Amx};

Isa choose() {
  if (const char* wish = std::getenv("MINDIR_LLM_ISA"); wish != nullptr && *wish != '\0') {
    for (Isa isa : kAll) {
      if (isa_name(isa) != wish) continue;
      if (!isa_supported(isa)) {
        fail_argument("MINDIR_LLM_ISA=" + std::string(wish) + ": this machine does not support it; unset it");
      }
      return isa;
    }
    fail_argument("MINDIR_LLM_ISA=" + std::string(wish) +
                  ": unknown (generic, avx2, avxvnni, avx512, avx512vnni, amx)");
  }
  Isa best = Isa::Generic;
  for (Isa isa : kAll) {
    if (isa_supported(isa)) best = isa;
  }
  return best;
}

#if defined(__x86_64__)
// A bit of CPUID leaf 7, whose names not every compiler's built-in check knows.
enum class Leaf7 { Subleaf0Ecx, Subleaf0Edx, Subleaf1Eax };

bool has_leaf7(Leaf7 which, unsigned bit) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, which == Leaf7::Subleaf1Eax ? 1 : 0, &a, &b, &c, &d)) return false;
  const unsigned value = which == Leaf7::Subleaf0Ecx ? c : which == Leaf7::Subleaf0Edx ? d : a;
  return (value >> bit & 1u) != 0;
}

// Linux hands out the tile registers' state (8 KiB a thread) on request only.
bool request_tiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  static const bool granted = ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
#else
  return false;
#endif
}
#endif

}  // namespace

std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::Avx2:
      return "avx2";
    case Isa::AvxVnni:
      return "avxvnni";
    case Isa::Avx512:
      return "avx512";
    case Isa::Avx512Vnni:
      return "avx512vnni";
    case Isa::Amx:
      return "amx";
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
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  const bool vnni = avx512 && has_leaf7(Leaf7::Subleaf0Ecx, 11);
  switch (isa) {
    case Isa::Generic:
    case Isa::Avx2:
      return avx2;
    case Isa::AvxVnni:
      return avx2 && has_leaf7(Leaf7::Subleaf1Eax, 4);
    case Isa::Avx512:
      return avx512;
    case Isa::Avx512Vnni:
      return vnni;
    case Isa::Amx:
      return vnni && has_leaf7(Leaf7::Subleaf0Edx, 24) && has_leaf7(Leaf7::Subleaf0Edx, 25) &&
             request_tiles();
  }
  return false;
#else
  return false;
#endif
}

Isa current_isa() {
  static const Isa chosen = choose();
  return chosen;
}

}  // namespace mllm
