// Preparation of fused graphs before they run.
#ifndef MINDIR_LLM_KERNELS_FUSED_PACK_WEIGHTS_H_
#define MINDIR_LLM_KERNELS_FUSED_PACK_WEIGHTS_H_

#include <span>

#include "base/thread_pool.h"
#include "graph/ir.h"

namespace mllm {

// Give every weight of a fused.Linear its packed form (Value::packed), one for all graphs that name it. The
// stored weights are read once, and not again. Throws OUT_OF_MEMORY.
void pack_weights(std::span<Graph* const> graphs, ThreadPool& pool);

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_FUSED_PACK_WEIGHTS_H_
