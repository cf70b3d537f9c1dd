// silu(gate) * up: with sigmoid written as the softmax over (gate, 0), with Sigmoid or SiLU, or as Swiglu.
#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

bool concat(Fuser& f, const Node& node) {
  const auto* parts = f.elements(node.inputs[0]);
  if (!parts || parts->size() != 2 || node.inputs.size() < 2) return false;
  const ValueId a_id = (*parts)[0];
  const ValueId b_id = (*parts)[1];
  const Rows* a = f.fact<Rows>(a_id);
  const Dims& dims = f.dims(a_id);
  if (!a || a->heads != 0 || dims != f.dims(b_id) || !f.is_axis(node.inputs[1], -1, dims.size()))
    return false;
  if (const Rows* b = f.fact<Rows>(b_id)) {
    if (b->heads != 0 || a->last != b->last || a->features != b->features || !has_feature_axis(f, a_id, *a))
      return false;
    f.state(node.outputs[0], GateAndUp{*a, *b});
    return true;
  }
  if (dims.size() != 2 || dims[1] != 1 || !is_zero(f, b_id)) return false;
  f.state(node.outputs[0], PairWithZero{*a});
  return true;
}

bool softmax(Fuser& f, const Node& node) {
  const auto* x = f.fact<PairWithZero>(node.inputs[0]);
  const Dims& dims = f.dims(node.inputs[0]);
  if (!x || dims.size() != 2 || dims[1] != 2 || !f.is_axis(node.inputs[1], -1, 2)) return false;
  f.state(node.outputs[0], SigmoidPair{x->gate});
  return true;
}

bool first_of_pair(Fuser& f, const Node& node) {
  const auto* x = f.fact<SigmoidPair>(node.inputs[0]);
  if (!x || f.dims(node.inputs[0]).size() != 2 || f.dims(node.inputs[0])[1] != 2) return false;
  if (last_axis_slice(f, node) != std::pair<int64_t, int64_t>{0, 1}) return false;
  f.state(node.outputs[0], Sigmoid{x->gate});
  return true;
}

bool sigmoid(Fuser& f, const Node& node) {
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  if (!x || x->heads != 0) return false;
  f.state(node.outputs[0], Sigmoid{*x});
  return true;
}

bool silu(Fuser& f, const Node& node) {
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  if (!x || x->heads != 0) return false;
  f.state(node.outputs[0], Silu{*x});
  return true;
}

bool gate_times_sigmoid(Fuser& f, const Node& node) {
  const auto p = f.pair<Rows, Sigmoid>(node);
  if (!p || !same_rows(*p.a, p.b->gate) || f.dims(p.a_id) != f.dims(p.b_id)) return false;
  f.state(node.outputs[0], Silu{*p.a});
  return true;
}

bool silu_times_up(Fuser& f, const Node& node) {
  const auto p = f.pair<Silu, Rows>(node);
  if (!p || p.b->heads != 0 || p.b->last != p.a->gate.last || p.b->features != p.a->gate.features ||
      f.dims(p.a_id) != f.dims(p.b_id)) {
    return false;
  }
  f.state(node.outputs[0], f.swiglu(p.a->gate, *p.b, node.name));
  return true;
}

bool swiglu(Fuser& f, const Node& node) {
  const auto* x = f.fact<GateAndUp>(node.inputs[0]);
  if (!x || node.inputs.size() < 2) return false;
  const Dims& dims = f.dims(node.inputs[0]);
  if (dims.empty() || dims.back() != 2 * x->gate.features || !f.is_axis(node.inputs[1], -1, dims.size()))
    return false;
  f.state(node.outputs[0], f.swiglu(x->gate, x->up, node.name));
  return true;
}

constexpr NamedRule kRules[] = {
    {"Concat", concat}, {"Softmax", softmax},        {"StridedSlice", first_of_pair}, {"Sigmoid", sigmoid},
    {"SiLU", silu},     {"Mul", gate_times_sigmoid}, {"Mul", silu_times_up},          {"Swiglu", swiglu},
};

}  // namespace

std::span<const NamedRule> activation_rules() {
  return kRules;
}

}  // namespace mllm::fusion
