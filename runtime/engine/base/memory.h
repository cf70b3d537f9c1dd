// Where large blocks of memory come from: the system, or the program that embeds the engine.
#ifndef MINDIR_LLM_BASE_MEMORY_H_
#define MINDIR_LLM_BASE_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "include/mindir_llm.h"

namespace mllm {

// The kinds that an allocator is asked for; Other always comes from the system.
enum class Memory {
  Weights = MLLM_MEMORY_WEIGHTS,
  Cache = MLLM_MEMORY_CACHE,
  Activations = MLLM_MEMORY_ACTIVATIONS,
  Other
};

// Null: the system. Blocks that exist keep the one they came from.
void set_allocator(const mllm_allocator* allocator);

// Zeroed memory of the program's allocator; null where it has none, or none for this kind. Throws
// OUT_OF_MEMORY.
std::shared_ptr<uint8_t> allocate_hooked(Memory kind, size_t bytes, size_t alignment);

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_MEMORY_H_
