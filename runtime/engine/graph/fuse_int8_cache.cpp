// What goes into int8 caches and how it is read: rounded after division by scales of channels, which are
// parameters, or of rows, which are 127ths of the largest magnitudes and have caches of their own. Written in
// float32 arithmetic, or as QuantV2 and DynamicQuantExt.
#include <algorithm>

#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

using Step = CacheCodes::Step;

constexpr double kMost = 127.0;
constexpr double kLeast = -128.0;
// Guards a division by zero: no row of numbers is smaller, and zeros stay zeros.
constexpr double kTiny = 1e-20;
constexpr int64_t kInt8 = 32;  // TypeId

// The parameter behind scales of channels as they are.
ValueId channel_scale(const Fuser& f, ValueId v) {
  if (const auto* x = f.fact<ChannelScale>(v)) return x->is_inverse ? kNoValue : x->parameter;
  const auto* x = f.fact<Weight>(v);
  return x && x->scale == kNoValue && is_channel_scale(f, x->parameter) ? x->parameter : kNoValue;
}

bool has_row_axes(const Fuser& f, ValueId v, const Rows& x) {
  return x.heads > 0 && f.dims(v) == Dims{f.batch, x.heads, f.tokens, 1};
}

// ---- Scales of channels.

bool invert(Fuser& f, const Node& node) {
  if (node.inputs.size() < 2 || f.number(node.inputs[0]) != 1.0) return false;
  const ValueId parameter = channel_scale(f, node.inputs[1]);
  if (parameter == kNoValue || f.dtype(node.inputs[1]) != DType::Float32) return false;
  f.state(node.outputs[0], ChannelScale{parameter, true});
  return true;
}

// The fused graph keeps scales in float32, never less precise than the graph asks for.
bool narrow(Fuser& f, const Node& node) {
  if (f.dtype(node.inputs[0]) != DType::Float32 || f.dtype(node.outputs[0]) != DType::Float16) return false;
  if (const auto* pair = f.fact<ChannelScalePair>(node.inputs[0])) {
    f.state(node.outputs[0], *pair);
    return true;
  }
  if (const ValueId parameter = channel_scale(f, node.inputs[0]); parameter != kNoValue) {
    f.state(node.outputs[0], ChannelScale{parameter, false});
    return true;
  }
  const auto* cache = f.fact<Cache>(node.inputs[0]);
  if (!cache || cache->value == kNoValue || f.cache_dims(cache->index)[3] != 1) return false;
  f.state(node.outputs[0], *cache);
  return true;
}

bool pair(Fuser& f, const Node& node) {
  const auto* parts = f.elements(node.inputs[0]);
  if (!parts || parts->size() != 2 || node.inputs.size() < 2 || !f.is_axis(node.inputs[1], 0, 4))
    return false;
  ValueId parameters[2];
  for (size_t i = 0; i < 2; ++i) {
    parameters[i] = channel_scale(f, (*parts)[i]);
    if (parameters[i] == kNoValue) return false;
    const Dims& dims = f.dims(parameters[i]);
    if (f.dims((*parts)[i]) != Dims{1, dims[0], 1, dims[1]}) return false;
  }
  if (f.dims(parameters[0]) != f.dims(parameters[1])) return false;
  f.state(node.outputs[0], ChannelScalePair{parameters[0], parameters[1]});
  return true;
}

bool scale_channels(Fuser& f, const Node& node) {
  const auto p = f.pair<Rows, ChannelScale>(node);
  if (!p || !p.b->is_inverse || p.a->last || !has_head_axes(f, p.a_id, *p.a)) return false;
  const Dims& dims = f.dims(p.b->parameter);
  if (dims != Dims{p.a->heads, p.a->features / p.a->heads} || f.dims(p.b_id) != Dims{1, dims[0], 1, dims[1]})
    return false;
  f.state(node.outputs[0], CacheCodes{*p.a, p.b->parameter, Step::Scaled});
  return true;
}

// x, scale, offset, square root mode, rounding, type
bool quant(Fuser& f, const Node& node) {
  if (node.inputs.size() != 6) return false;
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  const auto* scale = f.fact<ChannelScale>(node.inputs[1]);
  if (!x || x->last || x->heads != 0 || f.dims(node.inputs[0]) != Dims{f.rows(), x->features}) return false;
  if (!scale || !scale->is_inverse || f.dims(node.inputs[1]) != Dims{x->features}) return false;
  // A float offset: the scale multiplies.
  if (f.dims(node.inputs[2]) != Dims{x->features} || !is_zero(f, node.inputs[2])) return false;
  if (f.integer(node.inputs[3]) != 0 || f.integer(node.inputs[4]) != 0 || f.integer(node.inputs[5]) != kInt8)
    return false;
  f.state(node.outputs[0], CacheCodes{*x, scale->parameter, Step::Clipped});
  return true;
}

// ---- Scales of rows.

bool absolute(Fuser& f, const Node& node) {
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  if (!x || x->last || !has_head_axes(f, node.inputs[0], *x)) return false;
  f.state(node.outputs[0], HeadMagnitude{*x, false});
  return true;
}

bool largest(Fuser& f, const Node& node) {
  const auto* m = f.fact<HeadMagnitude>(node.inputs[0]);
  if (!m || m->is_row || node.inputs.size() < 2 || !f.is_axis(node.inputs[1], -1, 4)) return false;
  if (!has_head_axes(f, node.inputs[0], m->x) || !has_row_axes(f, node.outputs[0], m->x)) return false;
  f.state(node.outputs[0], HeadMagnitude{m->x, true});
  return true;
}

bool at_least_tiny(Fuser& f, const Node& node) {
  const auto p = f.with_number<HeadMagnitude>(node);
  if (!p || !p.a->is_row || !(p.number > 0 && p.number <= kTiny)) return false;
  f.state(node.outputs[0], *p.a);
  return true;
}

bool divide(Fuser& f, const Node& node) {
  if (node.inputs.size() < 2) return false;
  if (const auto* top = f.fact<HeadMagnitude>(node.inputs[0])) {
    if (!top->is_row || f.number(node.inputs[1]) != kMost) return false;
    f.state(node.outputs[0], HeadScale{top->x});
    return true;
  }
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  const auto* scale = f.fact<HeadScale>(node.inputs[1]);
  if (!x || !scale || !same_rows(*x, scale->x) || !has_head_axes(f, node.inputs[0], *x) ||
      !has_row_axes(f, node.inputs[1], *x)) {
    return false;
  }
  f.state(node.outputs[0], CacheCodes{*x, kNoValue, Step::Scaled});
  return true;
}

// x, smooth|None -> int8, scales
bool dynamic_quant(Fuser& f, const Node& node) {
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  if (!x || x->last || !has_head_axes(f, node.inputs[0], *x) || node.outputs.size() != 2) return false;
  if (node.inputs.size() > 1 && !f.is_none(node.inputs[1])) return false;
  f.state(node.outputs[0], CacheCodes{*x, kNoValue, Step::Clipped});
  f.state(node.outputs[1], HeadScale{*x});
  return true;
}

// ---- Both.

bool advance(Fuser& f, ValueId y, const CacheCodes& x, Step from, Step to) {
  if (x.step != from) return false;
  CacheCodes z = x;
  z.step = to;
  f.state(y, z);
  return true;
}

bool round(Fuser& f, const Node& node) {
  const auto* x = f.fact<CacheCodes>(node.inputs[0]);
  // Round has a second operand, of decimals.
  if (!x || (node.inputs.size() > 1 && f.integer(node.inputs[1]) != 0)) return false;
  // A row divided by a 127th of its largest magnitude is within ±127 already.
  return advance(f, node.outputs[0], *x, Step::Scaled, x->scale == kNoValue ? Step::Clipped : Step::Rounded);
}

bool raise(Fuser& f, const Node& node) {
  const auto p = f.with_number<CacheCodes>(node);
  return p && p.number == kLeast && advance(f, node.outputs[0], *p.a, Step::Rounded, Step::Raised);
}

bool lower(Fuser& f, const Node& node) {
  const auto p = f.with_number<CacheCodes>(node);
  return p && p.number == kMost && advance(f, node.outputs[0], *p.a, Step::Raised, Step::Clipped);
}

// The integers of a cache, as float numbers, times their scales.
bool widen(Fuser& f, const Node& node) {
  if (node.inputs.size() < 2) return false;
  for (const auto& [x, y] : {std::pair{node.inputs[0], node.inputs[1]}, {node.inputs[1], node.inputs[0]}}) {
    const auto* cache = f.fact<Cache>(x);
    if (!cache || cache->value == kNoValue || cache->group != 1 || cache->scale != kNoValue) continue;
    const Dims& dims = f.cache_dims(cache->index);
    if (f.cache_dtype(cache->index) != DType::Int8 || f.dims(x) != dims || f.dtype(x) == DType::Int8)
      continue;
    if (const ValueId channels = channel_scale(f, y); channels != kNoValue) {
      if (f.dims(channels) != Dims{dims[1], dims[3]} || f.dims(y) != Dims{1, dims[1], 1, dims[3]}) continue;
      f.state(node.outputs[0], f.scaled_cache(*cache, channels));
      return true;
    }
    const auto* rows = f.fact<Cache>(y);
    if (!rows || rows->value == kNoValue || rows->group != 1) continue;
    if (f.cache_dtype(rows->index) != DType::Float32 || f.cache_dims(rows->index) != f.dims(y) ||
        f.dims(y) != Dims{dims[0], dims[1], dims[2], 1}) {
      continue;
    }
    Cache scaled = *cache;
    scaled.scale = rows->value;
    f.state(node.outputs[0], scaled);
    return true;
  }
  return false;
}

constexpr NamedRule kRules[] = {
    {"Div", invert},   {"RealDiv", invert},     {"Cast", narrow},
    {"Concat", pair},  {"Mul", scale_channels}, {"QuantV2", quant},
    {"Abs", absolute}, {"ReduceMax", largest},  {"Maximum", at_least_tiny},
    {"Div", divide},   {"RealDiv", divide},     {"DynamicQuantExt", dynamic_quant},
    {"Round", round},  {"Maximum", raise},      {"Minimum", lower},
    {"Mul", widen},
};

}  // namespace

std::span<const NamedRule> int8_cache_rules() {
  return kRules;
}

bool is_channel_scale(const Fuser& f, ValueId parameter) {
  return f.dtype(parameter) == DType::Float32 && f.dims(parameter).size() == 2;
}

std::optional<CacheContent> cache_content(const Fuser& f, ValueId v) {
  if (const Rows* x = f.fact<Rows>(v)) {
    if (x->last || !has_head_axes(f, v, *x)) return std::nullopt;
    return CacheContent{CacheContent::Kind::Rows, *x, kNoValue};
  }
  if (const auto* x = f.fact<CacheCodes>(v)) {
    if (x->step != Step::Clipped || !has_head_axes(f, v, x->x)) return std::nullopt;
    const bool by_channel = x->scale != kNoValue;
    return CacheContent{by_channel ? CacheContent::Kind::ChannelCodes : CacheContent::Kind::RowCodes, x->x,
                        x->scale};
  }
  const auto* x = f.fact<HeadScale>(v);
  if (!x || !has_row_axes(f, v, x->x)) return std::nullopt;
  return CacheContent{CacheContent::Kind::RowScales, x->x, kNoValue};
}

}  // namespace mllm::fusion
