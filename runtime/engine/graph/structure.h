// Structural primitives: those that only arrange values and vanish when a graph is imported.
#ifndef MINDIR_LLM_GRAPH_STRUCTURE_H_
#define MINDIR_LLM_GRAPH_STRUCTURE_H_

#include <string_view>
#include <vector>

#include "graph/ir.h"

namespace mllm {

struct StructuralResult {
  enum class Kind { NotStructural, Alias, Literal, Tuple, Tensor } kind = Kind::NotStructural;
  ValueId value = kNoValue;       // Alias: the node is another name of this value
  mllm::Literal literal;          // Literal
  std::vector<ValueId> elements;  // Tuple
  mllm::Tensor tensor;            // Tensor: a constant
};

// Evaluate `node` when its primitive is structural (tuples, Depend, Load, UpdateState, Shape, scalar
// arithmetic).
StructuralResult evaluate_structural(const Graph& graph, const Node& node);

bool is_structural(std::string_view primitive);

}  // namespace mllm

#endif  // MINDIR_LLM_GRAPH_STRUCTURE_H_
