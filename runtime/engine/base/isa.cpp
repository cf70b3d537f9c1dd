#include "base/isa.h"

#include <cstdlib>
#include <string>

#include "base/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif (defined(__aarch64__) || MLLM_HAS_VFPV4) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace mllm {
namespace {

// Emulated tile registers are for tests, which ask for them.
#if defined(MLLM_EMULATE_AMX)
constexpr bool kEmulatesAmx = true;
#else
constexpr bool kEmulatesAmx = false;
#endif

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
    if (isa_supported(isa) && !(isa == Isa::Amx && kEmulatesAmx)) best = isa;
  }
  return best;
}

#if defined(__x86_64__)
// CPUID itself rather than the compiler's check: not every compiler's knows all names, and Zig's runtime
// answers no to all.
enum class CpuidWord { Leaf1Ecx, Leaf7Ebx, Leaf7Ecx, Leaf7Edx, Leaf7Subleaf1Eax };

bool has_cpuid_bit(CpuidWord word, unsigned bit) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const unsigned leaf = word == CpuidWord::Leaf1Ecx ? 1 : 7;
  if (!__get_cpuid_count(leaf, word == CpuidWord::Leaf7Subleaf1Eax ? 1 : 0, &a, &b, &c, &d)) return false;
  unsigned value = c;
  if (word == CpuidWord::Leaf7Ebx) value = b;
  if (word == CpuidWord::Leaf7Edx) value = d;
  if (word == CpuidWord::Leaf7Subleaf1Eax) value = a;
  return (value >> bit & 1u) != 0;
}

// Registers that the operating system saves when it switches threads, as bits of XCR0.
bool saves_registers(unsigned bits) {
  if (!has_cpuid_bit(CpuidWord::Leaf1Ecx, 27)) return false;  // OSXSAVE: XGETBV may be asked
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & bits) == bits;
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
#elif MLLM_HAS_VFPV4
bool has_vfpv4_and_neon() {
#if defined(__linux__)
  constexpr unsigned long kNeon = 1ul << 12, kVfpv4 = 1ul << 16;
  return (::getauxval(AT_HWCAP) & (kNeon | kVfpv4)) == (kNeon | kVfpv4);
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
    case Isa::Vfpv4:
      return "vfpv4";
    case Isa::Generic:
      break;
  }
  return "generic";
}

bool isa_supported(Isa isa) {
  if (isa == Isa::Generic) return true;
#if defined(__x86_64__)
  constexpr unsigned kYmm = 0x6, kZmm = 0xe6;
  const bool avx2 = saves_registers(kYmm) && has_cpuid_bit(CpuidWord::Leaf7Ebx, 5) &&
                    has_cpuid_bit(CpuidWord::Leaf1Ecx, 12) && has_cpuid_bit(CpuidWord::Leaf1Ecx, 29);
  const bool avx512 = avx2 && saves_registers(kZmm) && has_cpuid_bit(CpuidWord::Leaf7Ebx, 16) &&
                      has_cpuid_bit(CpuidWord::Leaf7Ebx, 30) && has_cpuid_bit(CpuidWord::Leaf7Ebx, 31) &&
                      has_cpuid_bit(CpuidWord::Leaf7Ebx, 17);
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
      // Conversion to bfloat16 in vectors; tiles, and their products of bytes and of bfloat16.
      return vnni && has_cpuid_bit(CpuidWord::Leaf7Subleaf1Eax, 5) &&
             (kEmulatesAmx ||
              (has_cpuid_bit(CpuidWord::Leaf7Edx, 24) && has_cpuid_bit(CpuidWord::Leaf7Edx, 25) &&
               has_cpuid_bit(CpuidWord::Leaf7Edx, 22) && request_tiles()));
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
#elif MLLM_HAS_VFPV4
  return isa == Isa::Vfpv4 && has_vfpv4_and_neon();
#else
  return false;
#endif
}

Isa current_isa() {
  static const Isa chosen = choose();
  return chosen;
}

}  // namespace mllm
