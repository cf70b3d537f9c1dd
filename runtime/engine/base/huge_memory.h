// Large blocks of memory for data that is read over and over.
#ifndef MINDIR_LLM_BASE_HUGE_MEMORY_H_
#define MINDIR_LLM_BASE_HUGE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/memory.h"

namespace mllm {

// Zeroed memory, in huge pages where the system grants them (fewer address translations: decode measured 10 %
// faster); the system provides a page when it is first written. Aligned to 2 MiB. Throws OUT_OF_MEMORY.
// kind: what the program's allocator is told, which then provides it instead of the system.
std::shared_ptr<uint8_t> allocate_huge(size_t bytes, Memory kind = Memory::Other);

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_HUGE_MEMORY_H_
