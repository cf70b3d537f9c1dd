// A graph for inputs of other extents.
#ifndef MINDIR_LLM_GRAPH_RETYPE_H_
#define MINDIR_LLM_GRAPH_RETYPE_H_

#include <span>

#include "graph/ir.h"

namespace mllm {

// Gives a fused graph these input types, in order; those of all other values follow. Throws where an operator
// does not take them.
void retype(Graph& graph, std::span<const TensorType> inputs);

}  // namespace mllm

#endif  // MINDIR_LLM_GRAPH_RETYPE_H_
