#include "base/isa.h"

#include <cstdlib>
#include <string>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace mllm {
namespace {

Isa choose() {
  if (const char* wish = std::getenv("MINDIR_LLM_ISA"); wish != nullptr && *wish != '\0') {
    for (Isa isa : kAllIsas) {
      if (isa_name(isa) != wish) continue;
      if (!isa_supported(isa)) {
        fail_argument("MINDIR_LLM_ISA=" + std::string(wish) + ": this machine does not support it; unset it");
      }
      return isa;
    }
    std::string names;
    for (Isa isa : kAllIsas) names += (names.empty() ? "" : ", ") + std::string(isa_name(isa));
    fail_argument("MINDIR_LLM_ISA=" + std::string(wish) + ": unknown (" + names + ")");
  }
  Isa best = Isa::Generic;
  for (Isa isa : kAllIsas) {
    if (isa_supported(isa)) best = isa;
  }
  return best;
}

#if defined(__x86_64__)
// Bits of CPUID whose names not every compiler's built-in check knows.
enum class CpuidWord { Leaf1Ecx, Leaf7Ecx, Leaf7Edx, Leaf7Subleaf1Eax };

bool has_cpuid_bit(CpuidWord word, unsigned bit) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const unsigned leaf = word == CpuidWord::Leaf1Ecx ? 1 : 7;
  if (!__get_cpuid_count(leaf, word == CpuidWord::Leaf7Subleaf1Eax ? 1 : 0, &a, &b, &c, &d)) return false;
  const unsigned value = word == CpuidWord::Leaf7Edx ? d : word == CpuidWord::Leaf7Subleaf1Eax ? a : c;
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
#elif defined(__aarch64__)
// What Linux says about the processor; other systems are not asked. The bits have no names in older headers.
bool has_dot_products() {
#if defined(__linux__)
  constexpr unsigned long kAsimdDp = 1ul << 20;
  return (::getauxval(AT_HWCAP) & kAsimdDp) != 0;
#else
  return false;
#endif
}

bool has_matrix_products() {
#if defined(__linux__)
  constexpr unsigned long kI8mm = 1ul << 13;
  return (::getauxval(AT_HWCAP2) & kI8mm) != 0;
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
    case Isa::Neon:
      return "neon";
    case Isa::NeonDot:
      return "neondot";
    case Isa::NeonI8mm:
      return "neoni8mm";
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
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    has_cpuid_bit(CpuidWord::Leaf1Ecx, 29);
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  const bool vnni = avx512 && has_cpuid_bit(CpuidWord::Leaf7Ecx, 11);
  switch (isa) {
    case Isa::Avx2:
      return avx2;
    case Isa::AvxVnni:
      return avx2 && has_cpuid_bit(CpuidWord::Leaf7Subleaf1Eax, 4);
    case Isa::Avx512:
      return avx512;
    case Isa::Avx512Vnni:
      return vnni;
    case Isa::Amx:
      // Tiles, their products of bytes and of bfloat16, and conversion to that in vectors.
      return vnni && has_cpuid_bit(CpuidWord::Leaf7Edx, 24) && has_cpuid_bit(CpuidWord::Leaf7Edx, 25) &&
             has_cpuid_bit(CpuidWord::Leaf7Edx, 22) && has_cpuid_bit(CpuidWord::Leaf7Subleaf1Eax, 5) &&
             request_tiles();
    default:
      return false;
  }
#elif defined(__aarch64__)
  switch (isa) {
    case Isa::Neon:
      return true;
    case Isa::NeonDot:
      return has_dot_products();
    case Isa::NeonI8mm:
      return has_dot_products() && has_matrix_products();
    default:
      return false;
  }
#else
  return false;
#endif
}

Isa current_isa() {
  static const Isa chosen = choose();
  return chosen;
}

}  // namespace mllm
