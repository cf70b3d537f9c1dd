#include "graph/plan.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"

namespace mllm {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kMaxArena = sizeof(size_t) > 4 ? uint64_t{1} << 47 : PTRDIFF_MAX;

size_t align(size_t n) {
  return (n + kAlignment - 1) / kAlignment * kAlignment;
}

// Operators that only rename a shape: the output is the same bytes as operand 0.
bool is_view(const Node& node) {
  return node.op == "Reshape" || node.op == "ExpandDims" || node.op == "Squeeze" || node.op == "Flatten";
}

// Where one block of arena memory lives in time and space.
struct Block {
  size_t bytes = 0;
  size_t first = 0;  // index of the node that writes it
  size_t last = 0;   // index of the last node that reads it; nodes.size() for graph outputs
  size_t offset = 0;
  ValueId root = kNoValue;
};

// Greedy by size: the largest blocks first, each at the lowest offset that is free for its whole lifetime.
// This is the usual heuristic of static planners (Pisarchyk and Lee, 2020) and within a few percent of the
// lower bound here.
size_t place(std::vector<Block>& blocks) {
  std::vector<size_t> order(blocks.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return blocks[a].bytes > blocks[b].bytes; });
  std::vector<const Block*> placed;  // by offset
  size_t total = 0;
  for (const size_t i : order) {
    Block& b = blocks[i];
    size_t offset = 0;
    for (const Block* p : placed) {
      if (p->last < b.first || p->first > b.last) continue;
      if (p->offset >= offset + b.bytes) break;
      offset = std::max(offset, p->offset + p->bytes);
    }
    b.offset = offset;
    if (b.bytes > kMaxArena - offset) {
      throw Error(MLLM_ERROR_OUT_OF_MEMORY,
                  "out of memory: the intermediate values need more than this machine can address");
    }
    total = std::max(total, offset + b.bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), &b,
                                   [](const Block* x, const Block* y) { return x->offset < y->offset; }),
                  &b);
  }
  return total;
}

// Layers with integer weights, whose rounding is larger than what fast kernels round besides.
bool has_quantized_layers(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    if (node.op != "fused.Linear") continue;
    for (const ValueId v : node.inputs) {
      if (v == kNoValue) continue;
      const DType dtype = graph.value(v).type.dtype;
      if (dtype == DType::Int8 || dtype == DType::QInt4x2 || dtype == DType::UInt8) return true;
    }
  }
  return false;
}

}  // namespace

Plan::Plan(Graph graph, ThreadPool& pool, bool exact) : Plan(std::move(graph), pool, exact, true) {}

size_t Plan::bytes_needed(Graph graph, ThreadPool& pool) {
  const Plan plan(std::move(graph), pool, false, false);
  return plan.arena_bytes_ + plan.scratch_bytes_;
}

Plan::Plan(Graph graph, ThreadPool& pool, bool exact, bool allocates)
    : graph_(std::move(graph)), pool_(pool), exact_(exact || !has_quantized_layers(graph_)) {
  const size_t count = graph_.values.size();
  tensors_.resize(count);
  // root[v]: the value whose memory v shares, itself included.
  std::vector<ValueId> root(count);
  for (size_t v = 0; v < count; ++v) root[v] = static_cast<ValueId>(v);
  const auto root_of = [&](ValueId v) { return root[static_cast<size_t>(v)]; };
  std::map<ValueId, Block> blocks;

  const auto touch = [&](ValueId v, size_t when, auto&& self) -> void {
    const Value& value = graph_.value(v);
    if (value.kind == Value::Kind::Tuple) {
      for (const ValueId e : value.elements) self(e, when, self);
      return;
    }
    if (const auto it = blocks.find(root_of(v)); it != blocks.end())
      it->second.last = std::max(it->second.last, when);
  };

  // A view of memory that a later node overwrites must keep the old contents, so it becomes a copy. `origin`
  // looks through every view, copied or not, which errs on the side of copying.
  std::vector<ValueId> origin(root);
  std::unordered_map<ValueId, size_t> last_write;  // of an origin: the last node that writes to it in place
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    const Node& node = graph_.nodes[i];
    for (const ValueId v : node.outputs) {
      const ValueId target = graph_.value(v).alias_of;
      if (target == kNoValue && !is_view(node)) continue;
      const ValueId source = origin[static_cast<size_t>(target == kNoValue ? node.inputs[0] : target)];
      origin[static_cast<size_t>(v)] = source;
      if (target != kNoValue) last_write[source] = i;
    }
  }

  operators_.reserve(graph_.nodes.size());
  views_.resize(graph_.nodes.size(), false);
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    const Node& node = graph_.nodes[i];
    const Operator* op = find_operator(node.op);
    if (!op)
      fail_unsupported(graph_.file + ": node " + node.name + ": the engine has no operator " + node.op);
    operators_.push_back(op);
    if (op->scratch_bytes)
      scratch_bytes_ = std::max(scratch_bytes_, op->scratch_bytes(OpArgs(graph_, node), pool_.threads()));
    for (const ValueId v : node.inputs) touch(v, i, touch);
    for (size_t k = 0; k < node.outputs.size(); ++k) {
      const ValueId v = node.outputs[k];
      const Value& value = graph_.value(v);
      ValueId source = value.alias_of;
      if (source == kNoValue && is_view(node)) {
        const auto write = last_write.find(origin[static_cast<size_t>(v)]);
        views_[i] = write == last_write.end() || write->second < i;
        if (views_[i]) source = node.inputs[0];
      }
      if (source != kNoValue) {
        root[static_cast<size_t>(v)] = root_of(source);
        touch(v, i, touch);
        continue;
      }
      blocks[v] = {align(nbytes(value.type.dtype, value.type.dims)), i, i, 0, v};
    }
  }
  for (const ValueId v : graph_.outputs) touch(v, graph_.nodes.size(), touch);

  std::vector<Block> list;
  for (const auto& [v, block] : blocks) list.push_back(block);
  arena_bytes_ = place(list);
  if (!allocates) return;
  arena_ = allocate(DType::UInt8, {static_cast<int64_t>(arena_bytes_)}, Memory::Activations);
  scratch_ = allocate(DType::UInt8, {static_cast<int64_t>(scratch_bytes_)}, Memory::Activations);
  for (const Block& b : list) {
    tensors_[static_cast<size_t>(b.root)].data = arena_.as<uint8_t>() + b.offset;
  }
  for (size_t v = 0; v < count; ++v) {
    Value& value = graph_.values[v];
    if (value.kind == Value::Kind::Constant || value.kind == Value::Kind::Parameter)
      tensors_[v] = value.tensor;
    tensors_[v].dtype = value.type.dtype;
    tensors_[v].dims = value.type.dims;
  }
  shared_.reserve(count);
  for (size_t v = 0; v < count; ++v) {
    if (root[v] != static_cast<ValueId>(v)) shared_.push_back({static_cast<ValueId>(v), root[v]});
  }
  // A parameter that a node overwrites in place is state: give this plan a copy of its own, the file stays as
  // it is.
  std::unordered_set<ValueId> copied;
  for (const auto& [v, r] : shared_) {
    const Value& owner = graph_.value(r);
    if (graph_.value(v).alias_of == kNoValue) continue;
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      if (graph_.inputs[i] == r && !overwrites_input(i)) overwritten_inputs_.push_back(i);
    }
    if (owner.kind != Value::Kind::Parameter && owner.kind != Value::Kind::Constant) continue;
    if (!copied.insert(r).second) continue;
    Tensor copy = allocate(owner.type.dtype, owner.type.dims);
    std::copy_n(owner.tensor.as<const uint8_t>(), copy.bytes(), copy.as<uint8_t>());
    tensors_[static_cast<size_t>(r)] = copy;
  }
  for (const auto& [v, r] : shared_)
    tensors_[static_cast<size_t>(v)].data = tensors_[static_cast<size_t>(r)].data;
}

bool Plan::overwrites_input(size_t index) const {
  return std::find(overwritten_inputs_.begin(), overwritten_inputs_.end(), index) !=
         overwritten_inputs_.end();
}

void Plan::set_profiling(bool on) {
  profile_.assign(on ? graph_.nodes.size() : 0, {});
}

std::vector<Tensor> Plan::run(std::span<const Tensor> inputs) {
  return run(inputs, {});
}

std::vector<Tensor> Plan::run(std::span<const Tensor> inputs, std::span<const Segment> segments) {
  if (inputs.size() != graph_.inputs.size()) fail_internal("Plan::run: wrong number of inputs");
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Value& value = graph_.value(graph_.inputs[i]);
    if (!(inputs[i].type() == value.type))
      fail_internal("Plan::run: input " + value.name + " has the wrong type");
    tensors_[static_cast<size_t>(graph_.inputs[i])].data = inputs[i].data;
  }
  for (const auto& [v, r] : shared_)
    tensors_[static_cast<size_t>(v)].data = tensors_[static_cast<size_t>(r)].data;
  RunContext context{graph_, tensors_, pool_, segments, 0, exact_, scratch_.data};
  for (const Segment& s : segments) context.rows += s.n;
  for (size_t i = 0; i < graph_.nodes.size(); ++i) {
    const Node& node = graph_.nodes[i];
    if (cancelled_ && cancelled_->load(std::memory_order_relaxed))
      throw Error(MLLM_ERROR_CANCELLED, "cancelled");
    if (views_[i]) continue;
    if (profile_.empty()) {
      operators_[i]->run(OpArgs(graph_, node), context);
      continue;
    }
    const auto start = std::chrono::steady_clock::now();
    operators_[i]->run(OpArgs(graph_, node), context);
    const std::chrono::nanoseconds time = std::chrono::steady_clock::now() - start;
    profile_[i].calls += 1;
    profile_[i].nanoseconds += time.count();
  }
  std::vector<Tensor> outputs;
  outputs.reserve(graph_.outputs.size());
  for (const ValueId v : graph_.outputs) outputs.push_back(tensors_[static_cast<size_t>(v)]);
  return outputs;
}

}  // namespace mllm
