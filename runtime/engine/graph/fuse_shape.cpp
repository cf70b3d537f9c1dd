// Operators that move or retype elements without computing: what they do to facts.
#include <algorithm>

#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

bool is_float(DType dtype) {
  return dtype == DType::Float16 || dtype == DType::Float32;
}

bool is_integer(DType dtype) {
  return dtype == DType::Int32 || dtype == DType::Int64;
}

// Facts describe flat order, which a reshape keeps.
bool reshape(Fuser& f, const Node& node) {
  f.state(node.outputs[0], f.any_fact(node.inputs[0]));
  return true;
}

// Only casts that keep every number, or that round an activation, which the fused graph holds in float32
// anyway.
bool cast(Fuser& f, const Node& node) {
  const ValueId x = node.inputs[0];
  const ValueId y = node.outputs[0];
  const DType from = f.dtype(x);
  const DType to = f.dtype(y);
  const Fact& fact = f.any_fact(x);
  const bool widens = from == to || (from == DType::Float16 && to == DType::Float32);
  bool keeps = false;
  if (std::holds_alternative<Rows>(fact)) keeps = is_float(from) && is_float(to);
  if (std::holds_alternative<Weight>(fact)) keeps = widens || (from == DType::Int8 && to == DType::Float32);
  if (std::holds_alternative<IntegerBias>(fact)) keeps = from == to || to == DType::Float32;
  if (const auto* pairs = std::get_if<Nibbles>(&fact)) {
    keeps = pairs->step == Nibbles::Step::Bytes && from == DType::UInt8 && to == DType::Float32;
  }
  if (std::holds_alternative<Comparison>(fact)) keeps = is_float(to);
  if (std::holds_alternative<Cache>(fact)) keeps = widens || (from == DType::Int8 && is_float(to));
  if (std::holds_alternative<TableRows>(fact)) keeps = from == to;
  if (std::holds_alternative<IndexVector>(fact) || std::holds_alternative<TokenIds>(fact)) {
    keeps = is_integer(from) && is_integer(to);
  }
  if (!keeps) return false;
  f.state(y, fact);
  return true;
}

// (b, t, h, d) <-> (b, h, t, d): the same rows seen differently.
std::optional<Rows> transposed(const Fuser& f, ValueId v, const Rows& x) {
  const Dims& dims = f.dims(v);
  Rows y = x;
  if (x.heads == 0) {
    if (dims.size() != 4 || dims[0] != f.batch || dims[1] != f.tokens || dims[2] * dims[3] != x.features)
      return std::nullopt;
    y.heads = dims[2];
  } else {
    if (!has_head_axes(f, v, x)) return std::nullopt;
    y.heads = 0;
  }
  return y;
}

bool transpose(Fuser& f, const Node& node) {
  const ValueId v = node.inputs[0];
  const auto* codes = f.fact<CacheCodes>(v);
  const Rows* x = codes ? &codes->x : f.fact<Rows>(v);
  if (!x || x->last || f.integers(node.inputs[1]) != std::vector<int64_t>{0, 2, 1, 3}) return false;
  const auto y = transposed(f, v, *x);
  if (!y) return false;
  if (codes) {
    f.state(node.outputs[0], CacheCodes{*y, codes->scale, codes->step});
  } else {
    f.state(node.outputs[0], *y);
  }
  return true;
}

// The axis along which a broadcast repeats, with the number of elements before and after it.
struct Repeat {
  int64_t before = 1, times = 1, after = 1;
};

std::optional<Repeat> repeated_axis(const Dims& from, const Dims& to) {
  if (from.size() != to.size()) return std::nullopt;
  Repeat repeat;
  bool found = false;
  for (size_t i = 0; i < from.size(); ++i) {
    if (from[i] == to[i]) {
      (found ? repeat.after : repeat.before) *= to[i];
    } else {
      if (found || from[i] != 1) return std::nullopt;
      found = true;
      repeat.times = to[i];
    }
  }
  return repeat;
}

bool broadcast(Fuser& f, const Node& node) {
  const Dims& from = f.dims(node.inputs[0]);
  const Dims& to = f.dims(node.outputs[0]);
  if (from == to) return reshape(f, node);
  if (is_zero(f, node.inputs[0])) {
    f.state(node.outputs[0], Zeros{});
    return true;
  }
  const auto repeat = repeated_axis(from, to);
  if (!repeat) return false;
  if (const auto* x = f.fact<Comparison>(node.inputs[0])) {
    if (x->heads != 1 || repeat->before != f.batch || repeat->after != f.tokens * x->columns) return false;
    Comparison y = *x;
    y.heads = repeat->times;
    f.state(node.outputs[0], y);
    return true;
  }
  if (const auto* x = f.fact<Cache>(node.inputs[0])) {
    const Dims& cache = f.cache_dims(x->index);
    if (x->group != 1 || repeat->before != cache[0] * cache[1] || repeat->after != cache[2] * cache[3])
      return false;
    Cache y = *x;
    y.group = repeat->times;
    f.state(node.outputs[0], y);
    return true;
  }
  return false;
}

constexpr NamedRule kRules[] = {
    {"Reshape", reshape}, {"ExpandDims", reshape},  {"Squeeze", reshape},
    {"Cast", cast},       {"Transpose", transpose}, {"BroadcastTo", broadcast},
};

}  // namespace

std::span<const NamedRule> shape_rules() {
  return kRules;
}

bool is_zero(const Fuser& f, ValueId v) {
  if (f.fact<Zeros>(v)) return true;
  const Value& value = f.old().value(v);
  if (value.kind != Value::Kind::Constant || value.type.dtype != DType::Float32) return false;
  const auto* p = value.tensor.as<const float>();
  for (int64_t i = 0, n = value.tensor.size(); i < n; ++i) {
    if (p[i] != 0.0f) return false;
  }
  return true;
}

bool same_rows(const Rows& a, const Rows& b) {
  return a.value == b.value && a.heads == b.heads && a.last == b.last;
}

bool has_feature_axis(const Fuser& fuser, ValueId v, const Rows& rows) {
  const Dims& dims = fuser.dims(v);
  return rows.heads == 0 && !dims.empty() && dims.back() == rows.features;
}

bool has_head_axes(const Fuser& fuser, ValueId v, const Rows& rows) {
  return rows.heads > 0 &&
         fuser.dims(v) == Dims{fuser.batch, rows.heads, fuser.tokens, rows.features / rows.heads};
}

namespace {

// The range of each axis that a StridedSlice with step 1 takes; nullopt for any other slice.
std::optional<std::vector<std::pair<int64_t, int64_t>>> slice_ranges(const Fuser& fuser, const Node& node) {
  if (node.inputs.size() != 9) return std::nullopt;
  const Dims& dims = fuser.dims(node.inputs[0]);
  const auto begin = fuser.integers(node.inputs[1]);
  const auto end = fuser.integers(node.inputs[2]);
  const auto step = fuser.integers(node.inputs[3]);
  const auto begin_mask = fuser.integer(node.inputs[4]);
  const auto end_mask = fuser.integer(node.inputs[5]);
  if (!begin || !end || !step || !begin_mask || !end_mask) return std::nullopt;
  for (size_t i = 6; i < 9; ++i) {  // ellipsis, new axis, shrink axis
    if (fuser.integer(node.inputs[i]) != 0) return std::nullopt;
  }
  const size_t rank = dims.size();
  if (rank == 0 || rank > 8 || begin->size() > rank || end->size() != begin->size() ||
      step->size() != begin->size()) {
    return std::nullopt;
  }
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (size_t i = 0; i < rank; ++i) {
    if (i >= begin->size()) {  // axes that are not named are taken whole
      ranges.emplace_back(0, dims[i]);
      continue;
    }
    const auto place = [&](int64_t index) {
      return std::clamp<int64_t>(index < 0 ? index + dims[i] : index, 0, dims[i]);
    };
    if ((*step)[i] != 1) return std::nullopt;
    ranges.emplace_back((*begin_mask >> i & 1) != 0 ? 0 : place((*begin)[i]),
                        (*end_mask >> i & 1) != 0 ? dims[i] : place((*end)[i]));
  }
  return ranges;
}

}  // namespace

std::optional<std::pair<int64_t, int64_t>> last_axis_slice(const Fuser& fuser, const Node& node) {
  const auto ranges = slice_ranges(fuser, node);
  if (!ranges) return std::nullopt;
  for (size_t i = 0; i + 1 < ranges->size(); ++i) {
    if ((*ranges)[i] != std::pair<int64_t, int64_t>{0, fuser.dims(node.inputs[0])[i]}) return std::nullopt;
  }
  return ranges->back();
}

bool slices_first_rows(const Fuser& fuser, const Node& node, int64_t count) {
  const auto ranges = slice_ranges(fuser, node);
  if (!ranges || (*ranges)[0] != std::pair<int64_t, int64_t>{0, count}) return false;
  for (size_t i = 1; i < ranges->size(); ++i) {
    if ((*ranges)[i] != std::pair<int64_t, int64_t>{0, fuser.dims(node.inputs[0])[i]}) return false;
  }
  return true;
}

}  // namespace mllm::fusion
