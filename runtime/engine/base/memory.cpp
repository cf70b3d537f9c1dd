#include "base/memory.h"

#include <cstring>
#include <mutex>
#include <optional>
#include <string>

#include "base/error.h"

namespace mllm {
namespace {

std::mutex mutex;
std::optional<mllm_allocator> hooks;  // guarded by the mutex

std::optional<mllm_allocator> current() {
  const std::lock_guard lock(mutex);
  return hooks;
}

}  // namespace

void set_allocator(const mllm_allocator* allocator) {
  const std::lock_guard lock(mutex);
  hooks = allocator ? std::optional(*allocator) : std::nullopt;
}

std::shared_ptr<uint8_t> allocate_hooked(Memory kind, size_t bytes, size_t alignment) {
  if (kind == Memory::Other || bytes == 0) return nullptr;
  const std::optional<mllm_allocator> from = current();
  if (!from) return nullptr;
  const auto c_kind = static_cast<mllm_memory_kind>(kind);
  auto* memory = static_cast<uint8_t*>(from->allocate(from->user, c_kind, bytes, alignment));
  if (!memory) {
    throw Error(MLLM_ERROR_OUT_OF_MEMORY,
                "out of memory: the program's allocator has no " + std::to_string(bytes) + " bytes");
  }
  std::shared_ptr<uint8_t> block(memory,
                                 [=](uint8_t* data) { from->release(from->user, c_kind, data, bytes); });
  if (reinterpret_cast<uintptr_t>(memory) % alignment != 0) {
    fail_argument("the program's allocator returned memory that is not aligned to " +
                  std::to_string(alignment) + " bytes");
  }
  std::memset(memory, 0, bytes);
  return block;
}

}  // namespace mllm
