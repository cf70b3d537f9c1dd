// Fusion: patterns of the `cpu` op set and the fused primitives of the `ascend` op set become the same
// operators.
#ifndef MINDIR_LLM_GRAPH_FUSE_H_
#define MINDIR_LLM_GRAPH_FUSE_H_

#include "graph/ir.h"

namespace mllm {

// Rewrites `graph` in place. float16 activations inside the graph are held in float32 afterwards (never less
// precise than the file asks for). Returns true when every remaining node is a fused operator, so that the
// plan can run any number of rows; false when some node matched no pattern, in which case the graph is left
// as it was.
bool fuse(Graph& graph);

}  // namespace mllm

#endif  // MINDIR_LLM_GRAPH_FUSE_H_
