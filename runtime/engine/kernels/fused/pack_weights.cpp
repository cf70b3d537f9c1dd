#include "kernels/fused/pack_weights.h"

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "base/huge_memory.h"
#include "graph/operator.h"
#include "kernels/fused/linear_operands.h"

namespace mllm {

void pack_weights(std::span<Graph* const> graphs, ThreadPool& pool) {
  struct Item {
    StoredWeights stored;
    std::shared_ptr<PackedMatrix> packed;
    std::string name;
  };
  std::vector<Item> items;
  // By all that makes a packed matrix. Prefill and decode name the same data; nothing else should.
  using Key = std::tuple<const void*, const void*, const void*, DType, Dims, DType, int64_t, bool>;
  std::map<Key, size_t> known;
  size_t bytes = 0;
  for (Graph* graph : graphs) {
    for (const Node& node : graph->nodes) {
      if (node.op != "fused.Linear") continue;
      const OpArgs args(*graph, node);
      const fused::LinearOperands operands(args);
      for (size_t i = 0; i < operands.count(); ++i) {
        StoredWeights stored = operands.stored(i);
        const Key key{stored.weight.data,  stored.scale.data,   stored.zero ? stored.zero->data : nullptr,
                      stored.weight.dtype, stored.weight.dims,  stored.scale.dtype,
                      stored.group,        stored.zero_is_added};
        const auto [it, is_new] = known.try_emplace(key, items.size());
        Value& weight = graph->value(node.inputs[fused::LinearOperands::weight(i)]);
        if (is_new) {
          items.push_back({stored, std::make_shared<PackedMatrix>(stored), weight.name});
          bytes += items.back().packed->bytes();
        }
        if (weight.packed && weight.packed != items[it->second].packed) {
          fail_format(weight.name + ": one weight with two scales, groups or zero points; store it twice");
        }
        weight.packed = items[it->second].packed;
      }
    }
  }
  // One block for all: few, full huge pages. Blocks are multiples of 64 bytes.
  const std::shared_ptr<uint8_t> memory = allocate_huge(bytes, Memory::Weights);
  size_t at = 0;
  for (Item& item : items) {
    try {
      item.packed->pack(item.stored, {memory, memory.get() + at}, pool);
    } catch (const Error& e) {
      throw Error(e.status(), item.name + ": " + e.what());
    }
    at += item.packed->bytes();
  }
}

}  // namespace mllm
