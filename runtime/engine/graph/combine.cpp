#include "graph/combine.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace mllm {
namespace {

// Operands of fused.Linear: x, gamma, residual, then weight, scale, zero, bias of each output.
constexpr size_t kX = 0, kGamma = 1, kResidual = 2, kFirstWeight = 3, kFirstZero = 5;

class Combiner {
 public:
  explicit Combiner(Graph& graph) : graph_(graph), removed_(graph.nodes.size(), false) {
    for (size_t n = 0; n < graph.nodes.size(); ++n) {
      for (const ValueId v : graph.nodes[n].inputs) users_[v].push_back(n);
      for (const ValueId v : graph.nodes[n].outputs) producer_[v] = n;
    }
    for (const ValueId v : graph.outputs) users_[v].push_back(graph.nodes.size());  // never combined away
  }

  void run() {
    for (size_t n = 0; n < graph_.nodes.size(); ++n) join_siblings(n);
    for (size_t n = 0; n < graph_.nodes.size(); ++n) absorb_norm(n);
    for (size_t n = 0; n < graph_.nodes.size(); ++n) absorb_gate(n);
    for (size_t n = 0; n < graph_.nodes.size(); ++n) absorb_residual(n);
    std::vector<Node> kept;
    for (size_t n = 0; n < graph_.nodes.size(); ++n) {
      if (removed_[n]) continue;
      for (const ValueId v : graph_.nodes[n].outputs)
        graph_.value(v).producer = static_cast<int32_t>(kept.size());
      kept.push_back(std::move(graph_.nodes[n]));
    }
    graph_.nodes = std::move(kept);
  }

 private:
  bool is(size_t n, const char* op) const {
    return n < graph_.nodes.size() && !removed_[n] && graph_.nodes[n].op == op;
  }
  bool is_none(ValueId v) const { return graph_.value(v).kind == Value::Kind::Literal; }
  std::optional<size_t> producer(ValueId v) const {
    const auto it = producer_.find(v);
    return it == producer_.end() ? std::nullopt : std::optional(it->second);
  }
  // The one node that uses a value, if there is just one use.
  std::optional<size_t> only_user(ValueId v) const {
    const auto it = users_.find(v);
    if (it == users_.end() || it->second.size() != 1) return std::nullopt;
    return it->second.front();
  }
  DType weight_type(const Node& node) const { return graph_.value(node.inputs[kFirstWeight]).type.dtype; }

  template <class T = int64_t>
  static bool same_setting(const Node& a, const Node& b, const char* name) {
    const auto setting = [name](const Node& n) {
      const auto it = n.attributes.find(name);
      return it == n.attributes.end() ? T{0} : std::get<T>(it->second.value);
    };
    return setting(a) == setting(b);
  }

  // Whether two products read their activations in the same form: the first one's is made for all.
  bool has_same_form(const Node& a, const Node& b) const {
    return weight_type(a) == weight_type(b) &&
           is_none(a.inputs[kFirstZero]) == is_none(b.inputs[kFirstZero]) &&
           same_setting(a, b, "zero_is_added") && same_setting(a, b, "group") && same_setting(a, b, "last") &&
           same_setting(a, b, "int8_rows") && same_setting<double>(a, b, "input_factor") &&
           same_setting<double>(a, b, "input_zero");
  }

  // Later products with the same operand and kind of weights join the first: they depend on nothing else.
  void join_siblings(size_t n) {
    if (!is(n, "fused.Linear")) return;
    const ValueId x = graph_.nodes[n].inputs[kX];
    for (const size_t m : std::vector<size_t>(users_[x])) {
      if (m <= n || !is(m, "fused.Linear")) continue;
      Node& first = graph_.nodes[n];
      Node& other = graph_.nodes[m];
      if (other.inputs[kX] != x || !has_same_form(first, other)) continue;
      first.inputs.insert(first.inputs.end(), other.inputs.begin() + kFirstWeight, other.inputs.end());
      first.outputs.insert(first.outputs.end(), other.outputs.begin(), other.outputs.end());
      for (const ValueId v : other.outputs) producer_[v] = n;
      std::erase(users_[x], m);
      removed_[m] = true;
    }
  }

  void absorb_norm(size_t n) {
    if (!is(n, "fused.Linear")) return;
    Node& linear = graph_.nodes[n];
    const ValueId x = linear.inputs[kX];
    const auto norm = producer(x);
    if (!norm || !is(*norm, "fused.RmsNorm") || only_user(x) != n ||
        !same_setting(graph_.nodes[*norm], linear, "last"))
      return;
    const Node& from = graph_.nodes[*norm];
    linear.inputs[kX] = from.inputs[0];
    linear.inputs[kGamma] = from.inputs[1];
    linear.attributes["eps"] = from.attributes.at("eps");
    std::ranges::replace(users_[from.inputs[0]], *norm, n);
    removed_[*norm] = true;
  }

  void absorb_gate(size_t n) {
    if (!is(n, "fused.SwiGLU")) return;
    const Node& gate = graph_.nodes[n];
    const auto source = producer(gate.inputs[0]);
    if (!source || !is(*source, "fused.Linear") || producer(gate.inputs[1]) != source) return;
    Node& linear = graph_.nodes[*source];
    if (linear.outputs != gate.inputs || only_user(gate.inputs[0]) != n || only_user(gate.inputs[1]) != n)
      return;
    linear.attributes["swiglu"] = Literal{int64_t{1}};
    linear.outputs = gate.outputs;
    producer_[gate.outputs[0]] = *source;
    removed_[n] = true;
  }

  // The sum moves into the product, and the product to the place of the sum, where both operands exist.
  void absorb_residual(size_t n) {
    if (!is(n, "fused.Add")) return;
    const Node add = graph_.nodes[n];
    for (const size_t i : {size_t{1}, size_t{0}}) {
      const auto source = producer(add.inputs[i]);
      if (!source || !is(*source, "fused.Linear") || only_user(add.inputs[i]) != n) continue;
      Node linear = graph_.nodes[*source];
      if (linear.outputs.size() != 1 || !is_none(linear.inputs[kResidual])) continue;
      linear.inputs[kResidual] = add.inputs[1 - i];
      linear.outputs = add.outputs;
      producer_[add.outputs[0]] = n;
      for (auto& [value, users] : users_) std::ranges::replace(users, *source, n);
      removed_[*source] = true;
      graph_.nodes[n] = std::move(linear);
      return;
    }
  }

  Graph& graph_;
  std::vector<bool> removed_;
  std::map<ValueId, std::vector<size_t>> users_;
  std::map<ValueId, size_t> producer_;
};

}  // namespace

void combine(Graph& graph) {
  Combiner(graph).run();
}

}  // namespace mllm
