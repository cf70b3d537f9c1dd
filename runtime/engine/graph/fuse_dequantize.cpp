// Integer weights less their zero points, times their scales: int8 [N, K] with one of each per row [N, 1], or
// int8 [K, N] or int4 taken apart to [K, N] with [groups, N], each row repeated for the inputs of its group,
// or (int4) [1, N].
#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

bool is_float(DType dtype) {
  return dtype == DType::Float16 || dtype == DType::Float32;
}

// A parameter as it is, maybe converted to float32, that could hold scales or zero points.
const Weight* plain(const Fuser& f, ValueId v) {
  const auto* w = f.fact<Weight>(v);
  return w && w->scale == kNoValue && f.dtype(v) == DType::Float32 ? w : nullptr;
}

// Rows [groups, N] seen as [groups, 1, N], each `group` times.
bool repeat_rows(Fuser& f, const Node& node) {
  const Weight* x = plain(f, node.inputs[0]);
  if (!x) return false;
  const Dims& from = f.dims(node.inputs[0]);
  const Dims& to = f.dims(node.outputs[0]);
  if (from.size() != 3 || to.size() != 3 || from[1] != 1 || from[0] != to[0] || from[2] != to[2] ||
      f.dims(x->parameter) != Dims{from[0], from[2]}) {
    return false;
  }
  f.state(node.outputs[0], RepeatedRows{x->parameter, to[1]});
  return true;
}

// The first of such rows: the last group is a short one.
bool first_rows(Fuser& f, const Node& node) {
  const auto* x = f.fact<RepeatedRows>(node.inputs[0]);
  if (!x) return false;
  const Dims& from = f.dims(node.inputs[0]);
  const Dims& to = f.dims(node.outputs[0]);
  const Dims& stored = f.dims(x->parameter);
  if (from != Dims{stored[0] * x->group, stored[1]} || to.size() != 2 || to[1] != from[1]) return false;
  if (!slices_first_rows(f, node, to[0])) return false;
  f.state(node.outputs[0], *x);
  return true;
}

// Integers of a weight, in float32 and in the order of its matrix.
std::optional<Shifted> integers(const Fuser& f, ValueId v) {
  if (f.dtype(v) != DType::Float32) return std::nullopt;
  const Dims& dims = f.dims(v);
  if (const auto* x = f.fact<Shifted>(v)) return *x;
  if (const auto* x = f.fact<Nibbles>(v)) {
    const Dims& stored = f.dims(x->parameter);
    if (x->step != Nibbles::Step::Signed || dims != Dims{stored[0], 2 * stored[1]}) return std::nullopt;
    return Shifted{x->parameter};
  }
  const auto* x = f.fact<Weight>(v);
  if (!x || x->scale != kNoValue || f.dtype(x->parameter) != DType::Int8 || dims.size() != 2 ||
      dims != f.dims(x->parameter)) {
    return std::nullopt;
  }
  return Shifted{x->parameter};
}

// One number per output, or per output and group, beside integers: which parameter, and the size of a group.
struct PerGroup {
  ValueId parameter = kNoValue;
  int64_t group = 0;
};

std::optional<PerGroup> per_group(const Fuser& f, const Shifted& weight, ValueId weight_id, ValueId v) {
  const Dims& dims = f.dims(weight_id);
  const bool is_int8 = f.dtype(weight.parameter) == DType::Int8;
  if (const auto* rows = f.fact<RepeatedRows>(v)) {
    const int64_t group = rows->group;
    const Dims& stored = f.dims(rows->parameter);
    if ((group != 32 && group != 64 && group != 128) || f.dims(v) != dims || stored[1] != dims[1] ||
        stored[0] != (dims[0] + group - 1) / group || (is_int8 && group >= dims[0])) {
      return std::nullopt;
    }
    return PerGroup{rows->parameter, group};
  }
  const Weight* x = plain(f, v);
  if (!x || f.dims(v) != (is_int8 ? Dims{dims[0], 1} : Dims{1, dims[1]})) return std::nullopt;
  return PerGroup{x->parameter, 0};
}

bool subtract_zero(Fuser& f, const Node& node) {
  if (node.inputs.size() < 2) return false;
  auto weight = integers(f, node.inputs[0]);
  if (!weight || weight->zero != kNoValue) return false;
  const auto zero = per_group(f, *weight, node.inputs[0], node.inputs[1]);
  if (!zero) return false;
  weight->zero = zero->parameter;
  weight->group = zero->group;
  f.state(node.outputs[0], *weight);
  return true;
}

bool dequantize(Fuser& f, const Node& node) {
  if (node.inputs.size() < 2) return false;
  for (const auto& [a, b] : {std::pair{node.inputs[0], node.inputs[1]}, {node.inputs[1], node.inputs[0]}}) {
    const auto weight = integers(f, a);
    if (!weight) continue;
    const auto scale = per_group(f, *weight, a, b);
    if (!scale || !is_float(f.dtype(scale->parameter))) continue;
    if (weight->zero != kNoValue && weight->group != scale->group) continue;
    f.state(node.outputs[0], Weight{weight->parameter, scale->parameter, scale->group, weight->zero});
    return true;
  }
  return false;
}

constexpr NamedRule kRules[] = {
    {"BroadcastTo", repeat_rows},
    {"StridedSlice", first_rows},
    {"Sub", subtract_zero},
    {"Mul", dequantize},
};

}  // namespace

std::span<const NamedRule> dequantize_rules() {
  return kRules;
}

}  // namespace mllm::fusion
