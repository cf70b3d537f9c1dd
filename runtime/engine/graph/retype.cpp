#include "graph/retype.h"

#include <vector>

#include "base/error.h"
#include "graph/operator.h"

namespace mllm {

void retype(Graph& graph, std::span<const TensorType> inputs) {
  if (inputs.size() != graph.inputs.size()) fail_internal("retype: wrong number of inputs");
  for (size_t i = 0; i < inputs.size(); ++i) graph.value(graph.inputs[i]).type = inputs[i];
  for (const Node& node : graph.nodes) {
    const std::vector<TensorType> types = find_operator(node.op)->infer(OpArgs(graph, node));
    for (size_t i = 0; i < node.outputs.size(); ++i) graph.value(node.outputs[i]).type = types.at(i);
  }
}

}  // namespace mllm
