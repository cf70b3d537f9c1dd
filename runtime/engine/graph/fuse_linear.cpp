// Products with stored weights, their biases, and residual sums.
#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

// int8 [N, K] times one factor per row [N, 1].
bool dequantize(Fuser& f, const Node& node) {
  const auto p = f.pair<Weight, Weight>(node);
  if (!p) return false;
  for (const auto& [w, w_id, s, s_id] :
       {std::tuple{p.a, p.a_id, p.b, p.b_id}, std::tuple{p.b, p.b_id, p.a, p.a_id}}) {
    const Dims& dims = f.dims(w_id);
    if (w->scale != kNoValue || s->scale != kNoValue || f.dtype(w->parameter) != DType::Int8) continue;
    if (f.dtype(s->parameter) == DType::Int8 || f.dtype(w_id) != DType::Float32) continue;
    if (dims.size() != 2 || f.dims(w->parameter) != dims || f.dims(s_id) != Dims{dims[0], 1}) continue;
    f.state(node.outputs[0], Weight{w->parameter, s->parameter});
    return true;
  }
  return false;
}

bool is_matrix_of_rows(const Fuser& f, ValueId v, const Rows* x) {
  return x && x->heads == 0 && f.dims(v) == Dims{x->last ? f.batch : f.rows(), x->features};
}

bool is_int4(const Fuser& f, const Weight& w) {
  return f.dtype(w.parameter) == DType::UInt8 || f.dtype(w.parameter) == DType::QInt4x2;
}

// x times weights [N, K] transposed, or int4 weights [K, N] as they are.
bool matmul(Fuser& f, const Node& node) {
  if (node.inputs.size() != 4 || f.integer(node.inputs[2]) != 0) return false;
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  const Weight* w = f.fact<Weight>(node.inputs[1]);
  if (!w || !is_matrix_of_rows(f, node.inputs[0], x)) return false;
  const Dims& dims = f.dims(node.inputs[1]);
  const Dims& stored = f.dims(w->parameter);
  if (dims.size() != 2 || stored.size() != 2) return false;
  if (is_int4(f, *w)) {
    if (f.integer(node.inputs[3]) != 0 || dims[0] != x->features || dims != Dims{stored[0], 2 * stored[1]})
      return false;
  } else {
    if (f.integer(node.inputs[3]) != 1 || dims[1] != x->features || dims != stored) return false;
    if ((f.dtype(w->parameter) == DType::Int8) != (w->scale != kNoValue)) return false;
  }
  f.state(node.outputs[0], f.linear(*x, *w, kNoValue, node.name));
  return true;
}

bool is_vector(const Fuser& f, ValueId v, int64_t size) {
  const Weight* w = f.fact<Weight>(v);
  return w && w->scale == kNoValue && f.dtype(w->parameter) != DType::Int8 && f.dims(v) == Dims{size} &&
         f.dims(w->parameter) == f.dims(v);
}

bool bias(Fuser& f, const Node& node) {
  const auto p = f.pair<Rows, Weight>(node);
  if (!p || !is_matrix_of_rows(f, p.a_id, p.a) || !is_vector(f, p.b_id, p.a->features)) return false;
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
  const int64_t n = int8 ? dims[0] : 2 * dims[1];
  if (dims[int8 ? 1 : 0] != x->features) return false;
  for (size_t i = 3; i <= 5; ++i) {
    if (!f.is_none(node.inputs[i])) return false;
  }
  // int8 is stored [N, K], int4 [K, N/2]: the one order in which all backends agree on the scales of groups.
  const auto group = f.integer(node.inputs[9]);
  if (f.integer(node.inputs[7]) != 0 || f.integer(node.inputs[8]) != (int8 ? 1 : 0) || !group) return false;
  const Weight* scale = f.fact<Weight>(node.inputs[2]);
  if (!scale || scale->scale != kNoValue) return false;
  if (*group == 0) {
    if (!is_vector(f, node.inputs[2], n)) return false;
  } else if (int8 || (*group != 32 && *group != 64 && *group != 128) ||
             f.dims(node.inputs[2]) != Dims{(dims[0] + *group - 1) / *group, n} ||
             f.dims(scale->parameter) != f.dims(node.inputs[2])) {
    return false;
  }
  ValueId bias_id = kNoValue;
  if (!f.is_none(node.inputs[6])) {
    if (!is_vector(f, node.inputs[6], n)) return false;
    bias_id = f.fact<Weight>(node.inputs[6])->parameter;
  }
  f.state(node.outputs[0], f.linear(*x, {weight, scale->parameter, *group}, bias_id, node.name));
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
    {"Mul", dequantize}, {"MatMul", matmul}, {"Add", bias}, {"WeightQuantBatchMatmul", weight_quant},
    {"Add", residual},
};

}  // namespace

std::span<const NamedRule> linear_rules() {
  return kRules;
}

}  // namespace mllm::fusion
