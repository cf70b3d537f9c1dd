#include "base/resident.h"

#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/file.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace mllm {

uint64_t resident_bytes() {
#if defined(__GLIBC__)
  ::malloc_trim(0);
#endif
  constexpr uint64_t kGuess = 8'000'000;
  const std::string pages = system_text("/proc/self/statm");  // all, resident, …
  const size_t at = pages.find(' ');
  if (at == std::string::npos) return kGuess;
  return std::strtoull(pages.c_str() + at, nullptr, 10) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace mllm
