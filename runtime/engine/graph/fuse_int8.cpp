// Products of int8 activations with int8 weights: activations rounded after division by a 127th of their
// row's largest magnitude, or on a grid that is the same for all (x * factor + zero, -128 … 127), multiplied
// as integers, and the sums, plus a bias of integers, scaled. Written in float32 arithmetic, or as
// DynamicQuantExt, QuantV2 and QuantBatchMatmul.
#include <cmath>

#include "graph/fuse_facts.h"
#include "graph/operator.h"

namespace mllm::fusion {
namespace {

using Step = Int8Rows::Step;

constexpr double kMost = 127.0;
constexpr double kLeast = -128.0;
// Guards a division by zero: no row of numbers is smaller, and zeros stay zeros.
constexpr double kTiny = 1e-20;

bool is_matrix(const Fuser& f, ValueId v, const Rows& x) {
  return x.heads == 0 && f.dims(v) == Dims{x.last ? f.batch : f.rows(), x.features};
}

bool is_column(const Fuser& f, ValueId v, const Rows& x) {
  return f.dims(v) == Dims{x.last ? f.batch : f.rows(), 1};
}

bool absolute(Fuser& f, const Node& node) {
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  if (!x || !is_matrix(f, node.inputs[0], *x)) return false;
  f.state(node.outputs[0], Magnitude{*x});
  return true;
}

bool largest(Fuser& f, const Node& node) {
  const auto* m = f.fact<Magnitude>(node.inputs[0]);
  if (!m || m->is_row || node.inputs.size() < 2 || !f.is_axis(node.inputs[1], -1, 2)) return false;
  if (!is_column(f, node.outputs[0], m->x)) return false;
  f.state(node.outputs[0], Magnitude{m->x, true});
  return true;
}

bool at_least_tiny(Fuser& f, const Node& node) {
  const auto p = f.with_number<Magnitude>(node);
  if (!p || !p.a->is_row || !(p.number > 0 && p.number <= kTiny)) return false;
  f.state(node.outputs[0], *p.a);
  return true;
}

bool divide(Fuser& f, const Node& node) {
  if (node.inputs.size() < 2) return false;
  const auto* top = f.fact<Magnitude>(node.inputs[1]);
  if (top && top->is_row && f.number(node.inputs[0]) == kMost) {
    f.state(node.outputs[0], RowFactor{top->x, false});
    return true;
  }
  top = f.fact<Magnitude>(node.inputs[0]);
  if (top && top->is_row && f.number(node.inputs[1]) == kMost) {
    f.state(node.outputs[0], RowFactor{top->x, true});
    return true;
  }
  return false;
}

bool scale_rows(Fuser& f, const Node& node) {
  const auto p = f.pair<Rows, RowFactor>(node);
  if (!p || p.b->is_scale || !same_rows(*p.a, p.b->x) || !is_matrix(f, p.a_id, *p.a) ||
      !is_column(f, p.b_id, *p.a)) {
    return false;
  }
  f.state(node.outputs[0], Int8Rows{*p.a});
  return true;
}

bool is_factor(std::optional<double> x) {
  return x && std::isfinite(*x) && *x > 0.0;
}

bool is_zero_point(std::optional<double> x) {
  return x && *x >= kLeast && *x <= kMost && *x == std::nearbyint(*x);
}

// x times the factor of a grid, a parameter with one element.
bool scale_all(Fuser& f, const Node& node) {
  const auto p = f.pair<Rows, Weight>(node);
  if (!p || !is_matrix(f, p.a_id, *p.a) || f.dims(node.outputs[0]) != f.dims(p.a_id)) return false;
  const auto factor = f.stored_number(p.b_id);
  if (!is_factor(factor) || f.dtype(p.b_id) != DType::Float32) return false;
  f.state(node.outputs[0], Int8Rows{*p.a, *factor});
  return true;
}

// Plus its zero point.
bool move(Fuser& f, const Node& node) {
  const auto p = f.pair<Int8Rows, Weight>(node);
  if (!p || p.a->factor == 0.0 || p.a->step != Step::Scaled) return false;
  const auto zero = f.stored_number(p.b_id);
  if (!is_zero_point(zero) || f.dims(node.outputs[0]) != f.dims(p.a_id)) return false;
  Int8Rows y = *p.a;
  y.zero = *zero;
  y.step = Step::Moved;
  f.state(node.outputs[0], y);
  return true;
}

bool round(Fuser& f, const Node& node) {
  const auto* x = f.fact<Int8Rows>(node.inputs[0]);
  if (!x || (x->step != Step::Scaled && x->step != Step::Moved)) return false;
  // Round has a second operand, of decimals.
  if (node.inputs.size() > 1 && f.integer(node.inputs[1]) != 0) return false;
  Int8Rows y = *x;
  y.step = x->factor == 0.0 ? Step::Done : Step::Rounded;
  f.state(node.outputs[0], y);
  return true;
}

bool bound(Fuser& f, const Node& node, double limit, Step from, Step to) {
  const auto p = f.with_number<Int8Rows>(node);
  if (!p || p.a->step != from || p.number != limit) return false;
  Int8Rows y = *p.a;
  y.step = to;
  f.state(node.outputs[0], y);
  return true;
}

bool bound_below(Fuser& f, const Node& node) {
  return bound(f, node, kLeast, Step::Rounded, Step::NotBelow);
}

bool bound_above(Fuser& f, const Node& node) {
  return bound(f, node, kMost, Step::NotBelow, Step::Done);
}

// x [M, K] times weights [N, K] transposed.
bool multiply(Fuser& f, const Node& node) {
  if (node.inputs.size() != 4 || f.integer(node.inputs[2]) != 0 || f.integer(node.inputs[3]) != 1)
    return false;
  const auto* x = f.fact<Int8Rows>(node.inputs[0]);
  const auto* w = f.fact<Weight>(node.inputs[1]);
  if (!x || x->step != Step::Done || !w || w->scale != kNoValue || f.dtype(w->parameter) != DType::Int8)
    return false;
  if (x->x.features > kMostInt8Inputs) return false;
  const Dims& dims = f.dims(node.inputs[1]);
  if (dims.size() != 2 || dims != f.dims(w->parameter) || dims[1] != x->x.features) return false;
  if (!is_matrix(f, node.inputs[0], x->x) || f.dtype(node.inputs[0]) != DType::Float32) return false;
  f.state(node.outputs[0], Int8Product{*x, w->parameter, x->factor != 0.0});
  return true;
}

bool add_integers(Fuser& f, const Node& node) {
  const auto p = f.pair<Int8Product, IntegerBias>(node);
  if (!p || p.a->rows.factor == 0.0 || p.a->bias != kNoValue) return false;
  const Dims bias{f.dims(p.a->weight)[0]};
  if (f.dims(p.b_id) != bias || f.dtype(p.b_id) != DType::Float32) return false;
  Int8Product y = *p.a;
  y.bias = p.b->parameter;
  f.state(node.outputs[0], y);
  return true;
}

bool scale_product_rows(Fuser& f, const Node& node) {
  const auto p = f.pair<Int8Product, RowFactor>(node);
  if (!p || p.a->has_row_scale || !p.b->is_scale || !same_rows(p.a->rows.x, p.b->x) ||
      !is_column(f, p.b_id, p.b->x)) {
    return false;
  }
  Int8Product y = *p.a;
  y.has_row_scale = true;
  f.state(node.outputs[0], y);
  return true;
}

bool scale_product_columns(Fuser& f, const Node& node) {
  const auto p = f.pair<Int8Product, Weight>(node);
  if (!p || !p.a->has_row_scale || p.b->scale != kNoValue || f.dtype(p.b->parameter) == DType::Int8)
    return false;
  const int64_t n = f.dims(p.a->weight)[0];
  if (f.dims(p.b_id) != Dims{n} && f.dims(p.b_id) != Dims{1, n}) return false;
  f.state(node.outputs[0], f.int8_linear(p.a->rows, {p.a->weight, p.b->parameter, 0}, p.a->bias, node.name));
  return true;
}

// x, smooth|None -> int8 rows, scale per row
bool dynamic_quant(Fuser& f, const Node& node) {
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  if (!x || !is_matrix(f, node.inputs[0], *x) || node.outputs.size() != 2) return false;
  if (node.inputs.size() > 1 && !f.is_none(node.inputs[1])) return false;
  f.state(node.outputs[0], Int8Rows{*x, 0.0, 0.0, Step::Done});
  f.state(node.outputs[1], RowFactor{*x, true});
  return true;
}

constexpr int64_t kInt8 = 32;

// x, scale, offset, sqrt mode, rounding, type. Float offsets: round(x * scale + offset).
bool static_quant(Fuser& f, const Node& node) {
  if (node.inputs.size() != 6) return false;
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  if (!x || !is_matrix(f, node.inputs[0], *x)) return false;
  const auto factor = f.stored_number(node.inputs[1]);
  const auto zero = f.stored_number(node.inputs[2]);
  if (!is_factor(factor) || !is_zero_point(zero)) return false;
  for (size_t i = 3; i < 5; ++i) {
    if (f.integer(node.inputs[i]) != 0) return false;
  }
  if (f.integer(node.inputs[5]) != kInt8) return false;
  f.state(node.outputs[0], Int8Rows{*x, *factor, *zero, Step::Done});
  return true;
}

constexpr int64_t kFloat16 = 42;

// x, w, scale, offset, bias, scale per row, transpose x, transpose w, type
bool quant_matmul(Fuser& f, const Node& node) {
  if (node.inputs.size() != 9) return false;
  const auto* x = f.fact<Int8Rows>(node.inputs[0]);
  const ValueId w = node.inputs[1];
  const auto* scale = f.fact<Weight>(node.inputs[2]);
  if (!x || x->step != Step::Done || !is_matrix(f, node.inputs[0], x->x) || !f.is_parameter(w) || !scale)
    return false;
  if (x->x.features > kMostInt8Inputs) return false;
  if (f.dtype(w) != DType::Int8 || f.dims(w).size() != 2 || f.dims(w)[1] != x->x.features) return false;
  if (scale->scale != kNoValue || f.dtype(node.inputs[2]) != DType::Float32 ||
      f.dims(node.inputs[2]) != Dims{f.dims(w)[0]}) {
    return false;
  }
  if (!f.is_none(node.inputs[3])) return false;
  ValueId bias = kNoValue;
  if (!f.is_none(node.inputs[4])) {
    const auto* b = f.fact<IntegerBias>(node.inputs[4]);
    if (!b || x->factor == 0.0 || f.dtype(node.inputs[4]) != DType::Int32 ||
        f.dims(node.inputs[4]) != Dims{f.dims(w)[0]}) {
      return false;
    }
    bias = b->parameter;
  }
  if (x->factor != 0.0) {
    if (!f.is_none(node.inputs[5])) return false;
  } else {
    const auto* rows = f.fact<RowFactor>(node.inputs[5]);
    if (!rows || !rows->is_scale || !same_rows(rows->x, x->x)) return false;
  }
  if (f.integer(node.inputs[6]) != 0 || f.integer(node.inputs[7]) != 1 ||
      f.integer(node.inputs[8]) != kFloat16)
    return false;
  f.state(node.outputs[0], f.int8_linear(*x, {w, scale->parameter, 0}, bias, node.name));
  return true;
}

constexpr NamedRule kRules[] = {
    {"Abs", absolute},
    {"ReduceMax", largest},
    {"Maximum", at_least_tiny},
    {"RealDiv", divide},
    {"Div", divide},
    {"Mul", scale_rows},
    {"Mul", scale_all},
    {"Add", move},
    {"Round", round},
    {"Maximum", bound_below},
    {"Minimum", bound_above},
    {"MatMul", multiply},
    {"Add", add_integers},
    {"Mul", scale_product_rows},
    {"Mul", scale_product_columns},
    {"DynamicQuantExt", dynamic_quant},
    {"QuantV2", static_quant},
    {"QuantBatchMatmul", quant_matmul},
};

}  // namespace

std::span<const NamedRule> int8_rules() {
  return kRules;
}

}  // namespace mllm::fusion
