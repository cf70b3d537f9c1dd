#include "base/processor.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstring>
#endif

namespace mllm {

bool recognizes_streams() {
#if defined(__x86_64__)
  // Asked once: a virtual machine's host answers CPUID, which takes microseconds.
  static const bool is_amd = [] {
    unsigned highest = 0, name[3] = {};
    return __get_cpuid(0, &highest, &name[0], &name[2], &name[1]) &&
           std::memcmp(name, "AuthenticAMD", sizeof name) == 0;
  }();
  return is_amd;
#else
  return false;
#endif
}

}  // namespace mllm
