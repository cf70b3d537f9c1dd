// How much context and how large a prefill chunk fit into a limit of memory.
#ifndef MINDIR_LLM_SESSION_MEMORY_PLAN_H_
#define MINDIR_LLM_SESSION_MEMORY_PLAN_H_

#include <cstdint>
#include <functional>
#include <string>

#include "kernels/matmul/matmul.h"

namespace mllm {

// What a process with one session needs, in bytes of resident memory.
struct MemoryNeeds {
  uint64_t program = 0;   // program, libraries, graphs and tokenizer: there before weights are read
  uint64_t weights = 0;   // packed, and what stays mapped
  uint64_t loading = 0;   // beside the weights until they are packed
  uint64_t position = 0;  // of the KV caches, for a position of every slot
  int32_t context = 0;    // positions, as the bundle has them
  int32_t chunk = 0;      // tokens of a slot that are computed at once, likewise
  bool can_shrink = true;
};

struct MemoryPlan {
  int32_t context = 0;
  int32_t chunk = 0;
  uint64_t session = 0;  // of one session: caches, intermediate values
  uint64_t peak = 0;     // of the process
};

// A session's memory but for the caches, for a chunk; it grows with the chunk.
using ChunkBytes = std::function<uint64_t(int32_t chunk)>;

// Contexts are not made shorter than this many positions, and chunks not smaller than this many tokens: that
// would save nearly nothing, and smaller chunks would be rounded otherwise.
inline constexpr int32_t kLeastContext = 64;
inline constexpr int32_t kLeastChunk = kFewestPromptRows;

// The longest context that fits, the bundle's own if possible, and the largest chunk beside it: first the
// chunk is halved, then the context shortened. Throws OUT_OF_MEMORY, saying what is needed at least. `name`:
// of the bundle.
MemoryPlan plan_memory(const std::string& name, uint64_t limit, const MemoryNeeds& needs,
                       const ChunkBytes& chunk_bytes);

// "context 512 of 2048, prefill chunk 32 of 256".
std::string plan_text(const MemoryPlan& plan, const MemoryNeeds& needs);

// Bytes as megabytes (10^6) with one decimal, rounded up.
std::string megabytes(uint64_t bytes);

}  // namespace mllm

#endif  // MINDIR_LLM_SESSION_MEMORY_PLAN_H_
