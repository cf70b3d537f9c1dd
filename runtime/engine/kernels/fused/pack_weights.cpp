#include "kernels/fused/pack_weights.h"

#include <map>
#include <memory>
#include <vector>

#include "base/huge_memory.h"
#include "graph/operator.h"
#include "kernels/fused/linear_operands.h"

namespace mllm {

void pack_weights(std::span<Graph* const> graphs, ThreadPool& pool) {
  struct Item {
    StoredWeights stored;
    std::shared_ptr<PackedMatrix> packed;
  };
  std::vector<Item> items;
  std::map<const void*, size_t> known;  // by stored data
  size_t bytes = 0;
  for (Graph* graph : graphs) {
    for (const Node& node : graph->nodes) {
      if (node.op != "fused.Linear") continue;
      const OpArgs args(*graph, node);
      const fused::LinearOperands operands(args);
      for (size_t i = 0; i < operands.count(); ++i) {
        StoredWeights stored = operands.stored(i);
        const auto [it, is_new] = known.try_emplace(stored.weight.data, items.size());
        if (is_new) {
          items.push_back({stored, std::make_shared<PackedMatrix>(stored)});
          bytes += items.back().packed->bytes();
        }
        graph->value(node.inputs[fused::LinearOperands::weight(i)]).packed = items[it->second].packed;
      }
    }
  }
  // One block for all: few, full huge pages. Blocks are multiples of 64 bytes.
  const std::shared_ptr<uint8_t> memory = allocate_huge(bytes);
  size_t at = 0;
  for (Item& item : items) {
    item.packed->pack(item.stored, {memory, memory.get() + at}, pool);
    at += item.packed->bytes();
  }
}

}  // namespace mllm
