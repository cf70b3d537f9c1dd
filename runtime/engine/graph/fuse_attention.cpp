// softmax(q k^T * scale + mask) v over the cache, and the NPU's flash attention primitives.
#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

// exp of anything this far below a visible score is zero in float32, whatever scores a network produces.
constexpr double kHidden = -1e6;

bool mask_bias(Fuser& f, const Node& node) {
  const auto p = f.with_number<Comparison>(node);
  if (!p || !p.a->is_greater || p.a->heads != 1 || !(p.number <= kHidden)) return false;
  if (f.dtype(p.a_id) != DType::Float32 || f.dims(p.a_id) != f.dims(node.outputs[0])) return false;
  f.state(node.outputs[0], MaskBias{p.a->columns});
  return true;
}

// After this call's rows were written; and integers times a scale.
bool is_readable(const Fuser& f, const Cache& cache) {
  return cache.value != kNoValue && (f.cache_dtype(cache.index) == DType::Int8) == (cache.scale != kNoValue);
}

// An updated cache whose heads, repeated, are the heads of q.
bool serves(const Fuser& f, const Cache& cache, const Rows& q) {
  const Dims& dims = f.cache_dims(cache.index);
  return is_readable(f, cache) && dims[1] * cache.group == q.heads && q.heads * dims[3] == q.features;
}

bool is_repeated_cache(const Fuser& f, ValueId v, const Cache& cache, const Rows& q) {
  const Dims& dims = f.cache_dims(cache.index);
  return serves(f, cache, q) && f.dtype(v) == DType::Float32 &&
         f.dims(v) == Dims{f.batch, q.heads, dims[2], dims[3]};
}

bool scores(Fuser& f, const Node& node) {
  if (node.inputs.size() != 4 || f.integer(node.inputs[2]) != 0 || f.integer(node.inputs[3]) != 1)
    return false;
  const Rows* q = f.fact<Rows>(node.inputs[0]);
  const auto* keys = f.fact<Cache>(node.inputs[1]);
  if (!q || q->last || !keys || !has_head_axes(f, node.inputs[0], *q)) return false;
  if (!is_repeated_cache(f, node.inputs[1], *keys, *q)) return false;
  f.state(node.outputs[0], Scores{*q, *keys, 1.0, false});
  return true;
}

bool scale_scores(Fuser& f, const Node& node) {
  const auto p = f.with_number<Scores>(node);
  if (!p || p.a->is_masked || f.dims(p.a_id) != f.dims(node.outputs[0])) return false;
  Scores y = *p.a;
  y.scale *= p.number;
  f.state(node.outputs[0], y);
  return true;
}

bool mask_scores(Fuser& f, const Node& node) {
  const auto p = f.pair<Scores, MaskBias>(node);
  if (!p || p.a->is_masked) return false;
  const int64_t columns = f.cache_dims(p.a->keys.index)[2];
  if (f.dims(p.a_id) != Dims{f.batch, p.a->q.heads, f.tokens, columns}) return false;
  if (p.b->columns != columns || f.dims(p.b_id) != Dims{f.batch, 1, f.tokens, columns}) return false;
  Scores y = *p.a;
  y.is_masked = true;
  f.state(node.outputs[0], y);
  return true;
}

bool softmax(Fuser& f, const Node& node) {
  const auto* x = f.fact<Scores>(node.inputs[0]);
  if (!x || !x->is_masked || !f.is_axis(node.inputs[1], -1, 4)) return false;
  if (f.dims(node.inputs[0]) != Dims{f.batch, x->q.heads, f.tokens, f.cache_dims(x->keys.index)[2]})
    return false;
  f.state(node.outputs[0], Probabilities{*x});
  return true;
}

bool weighted_values(Fuser& f, const Node& node) {
  if (node.inputs.size() != 4 || f.integer(node.inputs[2]) != 0 || f.integer(node.inputs[3]) != 0)
    return false;
  const auto* p = f.fact<Probabilities>(node.inputs[0]);
  const auto* values = f.fact<Cache>(node.inputs[1]);
  if (!p || !values) return false;
  const Scores& s = p->scores;
  if (f.dims(node.inputs[0]) != Dims{f.batch, s.q.heads, f.tokens, f.cache_dims(s.keys.index)[2]})
    return false;
  if (!is_repeated_cache(f, node.inputs[1], *values, s.q)) return false;
  if (f.cache_dims(s.keys.index) != f.cache_dims(values->index)) return false;
  if (f.cache_dtype(s.keys.index) != f.cache_dtype(values->index)) return false;
  f.state(node.outputs[0], f.attention(s.q, s.keys, *values, s.scale, node.name));
  return true;
}

constexpr int64_t kLayoutBnsd = 1;

// A cache as operand of a primitive.
struct CacheOperand {
  ValueId id = kNoValue;
  Cache cache;
};

// Operands of both primitives.
struct FlashOperands {
  size_t heads, layout, scale, kv_heads;
};

// What both primitives have in common.
bool flash(Fuser& f, const Node& node, const CacheOperand& keys, const CacheOperand& values,
           const FlashOperands& at) {
  const Rows* q = f.fact<Rows>(node.inputs[0]);
  const auto* mask = f.fact<Comparison>(node.inputs[3]);
  if (!q || q->last || !has_head_axes(f, node.inputs[0], *q) || !mask) return false;
  const Dims& dims = f.cache_dims(keys.cache.index);
  if (f.dims(keys.id) != dims || f.dims(values.id) != dims || f.cache_dims(values.cache.index) != dims)
    return false;
  if (keys.cache.group != 1 || values.cache.group != 1) return false;
  if (!is_readable(f, keys.cache) || !is_readable(f, values.cache)) return false;
  if (f.cache_dtype(keys.cache.index) != f.cache_dtype(values.cache.index)) return false;
  const auto heads = f.integer(node.inputs[at.heads]);
  const auto kv_heads = f.integer(node.inputs[at.kv_heads]);
  const auto scale = f.number(node.inputs[at.scale]);
  if (heads != q->heads || kv_heads != dims[1] || !scale || f.integer(node.inputs[at.layout]) != kLayoutBnsd)
    return false;
  if (q->heads % dims[1] != 0 || q->features != q->heads * dims[3]) return false;
  // Set bits are hidden: columns after the token's own position.
  if (!mask->is_greater || mask->heads != 1 || mask->columns != dims[2] ||
      f.dtype(node.inputs[3]) != DType::Bool) {
    return false;
  }
  if (f.dims(node.inputs[3]) != Dims{f.batch, 1, f.tokens, dims[2]}) return false;
  f.state(node.outputs[0], f.attention(*q, keys.cache, values.cache, *scale, node.name));
  return true;
}

bool all_none(const Fuser& f, const Node& node, size_t begin, size_t end) {
  for (size_t i = begin; i < end; ++i) {
    if (!f.is_none(node.inputs[i])) return false;
  }
  return true;
}

// q, k, v, mask, 8 unused, heads, scale, pre, next, layout, kv heads, sparse mode, inner precise
bool prompt_flash(Fuser& f, const Node& node) {
  if (node.inputs.size() != 20 || !all_none(f, node, 4, 12) || f.integer(node.inputs[18]) != 0) return false;
  const auto* keys = f.fact<Cache>(node.inputs[1]);
  const auto* values = f.fact<Cache>(node.inputs[2]);
  if (!keys || !values) return false;
  // The band of sparse mode 0 must not hide anything.
  const int64_t length = f.cache_dims(keys->index)[2];
  const auto pre = f.integer(node.inputs[14]);
  const auto next = f.integer(node.inputs[15]);
  if (!pre || !next || *pre < length || *next < length) return false;
  return flash(f, node, {node.inputs[1], *keys}, {node.inputs[2], *values}, {12, 16, 13, 17});
}

// q, (k), (v), mask, 7 unused, scales of the caches, 3 unused, heads, layout, scale, kv heads, block size,
// inner precise
bool incremental_flash(Fuser& f, const Node& node) {
  constexpr size_t kScales = 11;
  if (node.inputs.size() != 21 || f.tokens != 1) return false;
  if (!all_none(f, node, 4, kScales) || !all_none(f, node, kScales + 1, 15)) return false;
  const auto* keys = f.elements(node.inputs[1]);
  const auto* values = f.elements(node.inputs[2]);
  if (!keys || !values || keys->size() != 1 || values->size() != 1) return false;
  const auto* key_cache = f.fact<Cache>(keys->front());
  const auto* value_cache = f.fact<Cache>(values->front());
  if (!key_cache || !value_cache) return false;
  CacheOperand k{keys->front(), *key_cache};
  CacheOperand v{values->front(), *value_cache};
  if (!f.is_none(node.inputs[kScales])) {
    const auto* scales = f.fact<ChannelScalePair>(node.inputs[kScales]);
    const Dims& dims = f.cache_dims(k.cache.index);
    if (!scales || f.dims(node.inputs[kScales]) != Dims{2, dims[1], 1, dims[3]}) return false;
    for (const CacheOperand* one : {&k, &v}) {
      if (f.dtype(one->id) != DType::Int8 || one->cache.scale != kNoValue) return false;
    }
    k.cache = f.scaled_cache(k.cache, scales->keys);
    v.cache = f.scaled_cache(v.cache, scales->values);
  }
  return flash(f, node, k, v, {15, 16, 17, 18});
}

constexpr NamedRule kRules[] = {
    {"Mul", mask_bias},
    {"BatchMatMul", scores},
    {"Mul", scale_scores},
    {"Add", mask_scores},
    {"Softmax", softmax},
    {"BatchMatMul", weighted_values},
    {"PromptFlashAttention", prompt_flash},
    {"IncreFlashAttention", incremental_flash},
};

}  // namespace

std::span<const NamedRule> attention_rules() {
  return kRules;
}

}  // namespace mllm::fusion
