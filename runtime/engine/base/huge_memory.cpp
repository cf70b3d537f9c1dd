#include "base/huge_memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <string>

#include "base/error.h"

namespace mllm {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

std::shared_ptr<uint8_t> allocate_huge(size_t bytes, Memory kind) {
  if (bytes == 0) return nullptr;
  if (bytes > SIZE_MAX / 2) {  // the sums below would overflow
    throw Error(MLLM_ERROR_OUT_OF_MEMORY,
                "out of memory: cannot allocate " + std::to_string(bytes) + " bytes");
  }
  const size_t size = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  if (auto block = allocate_hooked(kind, size, kHugePage)) return block;
  const size_t mapped = size + kHugePage;  // room to align
  void* memory = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw Error(MLLM_ERROR_OUT_OF_MEMORY,
                "out of memory: cannot allocate " + std::to_string(bytes) + " bytes");
  }
  const auto start = reinterpret_cast<uintptr_t>(memory);
  auto* aligned = reinterpret_cast<uint8_t*>((start + kHugePage - 1) / kHugePage * kHugePage);
#if defined(MADV_HUGEPAGE)
  ::madvise(aligned, size, MADV_HUGEPAGE);  // a wish: without it everything works, slower
#endif
  return {aligned, [memory, mapped](uint8_t*) { ::munmap(memory, mapped); }};
}

}  // namespace mllm
