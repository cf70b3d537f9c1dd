// x * rsqrt(mean(x * x) + eps) * gamma, and the primitive RmsNorm.
#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

bool square(Fuser& f, const Node& node) {
  const auto p = f.pair<Rows, Rows>(node);
  if (!p || !same_rows(*p.a, *p.b) || p.a->heads != 0 || f.dims(p.a_id) != f.dims(p.b_id)) return false;
  f.state(node.outputs[0], Square{*p.a});
  return true;
}

bool mean(Fuser& f, const Node& node) {
  const auto* x = f.fact<Square>(node.inputs[0]);
  if (!x || node.inputs.size() < 2 || !has_feature_axis(f, node.inputs[0], x->x)) return false;
  if (!f.is_axis(node.inputs[1], -1, f.dims(node.inputs[0]).size())) return false;
  f.state(node.outputs[0], MeanSquare{x->x, 0.0});
  return true;
}

bool add_eps(Fuser& f, const Node& node) {
  const auto p = f.with_number<MeanSquare>(node);
  if (!p || p.a->eps != 0.0 || !(p.number >= 0.0) || f.dims(p.a_id) != f.dims(node.outputs[0])) return false;
  f.state(node.outputs[0], MeanSquare{p.a->x, p.number});
  return true;
}

bool rsqrt(Fuser& f, const Node& node) {
  const auto* x = f.fact<MeanSquare>(node.inputs[0]);
  if (!x) return false;
  f.state(node.outputs[0], InverseRms{x->x, x->eps});
  return true;
}

bool normalize(Fuser& f, const Node& node) {
  const auto p = f.pair<Rows, InverseRms>(node);
  if (!p || !same_rows(*p.a, p.b->x) || !has_feature_axis(f, p.a_id, *p.a)) return false;
  // One factor per row: the shape of x with a last axis of 1.
  Dims factors = f.dims(p.a_id);
  factors.back() = 1;
  if (f.dims(p.b_id) != factors) return false;
  f.state(node.outputs[0], Normalized{p.b->x, p.b->eps});
  return true;
}

bool is_gamma(const Fuser& f, ValueId v, const Weight* weight, int64_t features) {
  return weight && weight->scale == kNoValue && f.dims(v) == Dims{features} &&
         f.dims(weight->parameter) == f.dims(v) && f.dtype(weight->parameter) != DType::Int8;
}

bool scale(Fuser& f, const Node& node) {
  const auto p = f.pair<Normalized, Weight>(node);
  if (!p || !has_feature_axis(f, p.a_id, p.a->x) || !is_gamma(f, p.b_id, p.b, p.a->x.features)) return false;
  f.state(node.outputs[0], f.norm(p.a->x, p.b->parameter, p.a->eps, node.name));
  return true;
}

bool rms_norm(Fuser& f, const Node& node) {
  if (node.inputs.size() < 3) return false;
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  const auto eps = f.number(node.inputs[2]);
  if (!x || !eps || !(*eps >= 0.0) || !has_feature_axis(f, node.inputs[0], *x)) return false;
  const auto* gamma = f.fact<Weight>(node.inputs[1]);
  if (!is_gamma(f, node.inputs[1], gamma, x->features)) return false;
  f.state(node.outputs[0], f.norm(*x, gamma->parameter, *eps, node.name));
  return true;
}

constexpr NamedRule kRules[] = {
    {"Mul", square},    {"ReduceMean", mean}, {"Add", add_eps},      {"Rsqrt", rsqrt},
    {"Mul", normalize}, {"Mul", scale},       {"RmsNorm", rms_norm},
};

}  // namespace

std::span<const NamedRule> norm_rules() {
  return kRules;
}

}  // namespace mllm::fusion
