// Products with stored weights, their biases, and residual sums.
#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

bool is_matrix_of_rows(const Fuser& f, ValueId v, const Rows* x) {
  return x && x->heads == 0 && f.dims(v) == Dims{x->last ? f.batch : f.rows(), x->features};
}

bool is_int4(const Fuser& f, const Weight& w) {
  return f.dtype(w.parameter) == DType::UInt8 || f.dtype(w.parameter) == DType::QInt4x2;
}

// x times weights [N, K] transposed, or int4 weights and int8 in groups, [K, N], as they are.
bool matmul(Fuser& f, const Node& node) {
  if (node.inputs.size() != 4 || f.integer(node.inputs[2]) != 0) return false;
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  const Weight* w = f.fact<Weight>(node.inputs[1]);
  if (!w || !is_matrix_of_rows(f, node.inputs[0], x)) return false;
  const Dims& dims = f.dims(node.inputs[1]);
  const Dims& stored = f.dims(w->parameter);
  if (dims.size() != 2 || stored.size() != 2) return false;
  if (is_int4(f, *w) || w->group != 0) {
    const Dims matrix{stored[0], stored[1] * (is_int4(f, *w) ? 2 : 1)};
    if (f.integer(node.inputs[3]) != 0 || dims[0] != x->features || dims != matrix) return false;
  } else {
    if (f.integer(node.inputs[3]) != 1 || dims[1] != x->features || dims != stored) return false;
    if ((f.dtype(w->parameter) == DType::Int8) != (w->scale != kNoValue)) return false;
  }
  f.state(node.outputs[0], f.linear(*x, *w, kNoValue, node.name));
  return true;
}

// A float parameter of these dimensions.
bool is_stored_as(const Fuser& f, ValueId v, const Dims& dims) {
  const Weight* w = f.fact<Weight>(v);
  return w && w->scale == kNoValue && f.dtype(w->parameter) != DType::Int8 && f.dims(v) == dims &&
         f.dims(w->parameter) == dims;
}

bool bias(Fuser& f, const Node& node) {
  const auto p = f.pair<Rows, Weight>(node);
  if (!p || !is_matrix_of_rows(f, p.a_id, p.a) || !is_stored_as(f, p.b_id, {p.a->features})) return false;
  const auto y = f.add_bias(*p.a, p.b->parameter);
  if (!y) return false;
  f.state(node.outputs[0], *y);
  return true;
}

// x, w, scale, offset, quant scale, quant offset, bias, transpose x, transpose w, group
bool weight_quant(Fuser& f, const Node& node) {
  if (node.inputs.size() != 10) return false;
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  const ValueId weight = node.inputs[1];
  if (!f.is_parameter(weight) || !is_matrix_of_rows(f, node.inputs[0], x)) return false;
  const Dims& dims = f.dims(weight);
  const bool int8 = f.dtype(weight) == DType::Int8;
  if ((!int8 && (f.dtype(weight) != DType::QInt4x2 || !f.fact<Nibbles>(weight))) || dims.size() != 2)
    return false;
  const auto group = f.integer(node.inputs[9]);
  if (!group || (*group != 0 && *group != 32 && *group != 64 && *group != 128)) return false;
  // int8 is stored [N, K]; with groups, and int4, [K, N]: the one order in which all backends agree on the
  // scales of groups.
  const bool by_output = int8 && *group == 0;
  if (f.integer(node.inputs[7]) != 0 || f.integer(node.inputs[8]) != (by_output ? 1 : 0)) return false;
  const int64_t k = dims[by_output ? 1 : 0];
  const int64_t n = dims[by_output ? 0 : 1] * (int8 ? 1 : 2);
  if (k != x->features || (int8 && *group >= k)) return false;
  if (!f.is_none(node.inputs[4]) || !f.is_none(node.inputs[5])) return false;
  const Dims scales = *group == 0 ? Dims{n} : Dims{(k + *group - 1) / *group, n};
  const auto stored = [&](size_t input) { return f.fact<Weight>(node.inputs[input])->parameter; };
  if (!is_stored_as(f, node.inputs[2], scales)) return false;
  Weight w{weight, stored(2), *group};
  if (!f.is_none(node.inputs[3])) {
    if (!is_stored_as(f, node.inputs[3], scales)) return false;
    w.zero = stored(3);
    w.zero_is_added = true;
  }
  ValueId bias_id = kNoValue;
  if (!f.is_none(node.inputs[6])) {
    if (!is_stored_as(f, node.inputs[6], {n})) return false;
    bias_id = stored(6);
  }
  f.state(node.outputs[0], f.linear(*x, w, bias_id, node.name));
  return true;
}

bool residual(Fuser& f, const Node& node) {
  const auto p = f.pair<Rows, Rows>(node);
  if (!p || p.a->heads != 0 || p.b->heads != 0 || p.a->last != p.b->last || p.a->features != p.b->features ||
      f.dims(p.a_id) != f.dims(p.b_id)) {
    return false;
  }
  f.state(node.outputs[0], f.add(*p.a, *p.b, node.name));
  return true;
}

constexpr NamedRule kRules[] = {
    {"MatMul", matmul},
    {"Add", bias},
    {"WeightQuantBatchMatmul", weight_quant},
    {"Add", residual},
};

}  // namespace

std::span<const NamedRule> linear_rules() {
  return kRules;
}

}  // namespace mllm::fusion
