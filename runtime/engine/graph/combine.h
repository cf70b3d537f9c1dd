// The last step of fusion: products with stored weights take in what surrounds them.
#ifndef MINDIR_LLM_GRAPH_COMBINE_H_
#define MINDIR_LLM_GRAPH_COMBINE_H_

#include "graph/ir.h"

namespace mllm {

// In a graph of fused operators, in place:
//   fused.Linear of one operand            -> one node (query, key and value; gate and up)
//   fused.RmsNorm in front of such a node  -> its gamma and eps
//   fused.SwiGLU of a node's two outputs   -> its only output
//   fused.Add to a node's only output      -> its residual
// Fewer passes over the activations, and fewer points where all threads wait for each other.
void combine(Graph& graph);

}  // namespace mllm

#endif  // MINDIR_LLM_GRAPH_COMBINE_H_
