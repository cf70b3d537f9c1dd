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

// An updated cache whose heads, repeated, are the heads of q.
bool serves(const Fuser& f, const Cache& cache, const Rows& q) {
  const Dims& dims = f.cache_dims(cache.index);
  return cache.value != kNoValue && dims[1] * cache.group == q.heads && q.heads * dims[3] == q.features;
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

// What both primitives have in common; `v` gives the caches' operands.
bool flash(Fuser& f, const Node& node, ValueId keys_id, ValueId values_id, size_t heads_at, size_t layout_at,
           size_t scale_at, size_t kv_heads_at) {
  const Rows* q = f.fact<Rows>(node.inputs[0]);
  const auto* keys = f.fact<Cache>(keys_id);
  const auto* values = f.fact<Cache>(values_id);
  const auto* mask = f.fact<Comparison>(node.inputs[3]);
  if (!q || q->last || !has_head_axes(f, node.inputs[0], *q) || !keys || !values || !mask) return false;
  const Dims& dims = f.cache_dims(keys->index);
  if (f.dims(keys_id) != dims || f.dims(values_id) != dims || f.cache_dims(values->index) != dims)
    return false;
  if (keys->group != 1 || values->group != 1 || keys->value == kNoValue || values->value == kNoValue)
    return false;
  if (f.cache_dtype(keys->index) != f.cache_dtype(values->index)) return false;
  const auto heads = f.integer(node.inputs[heads_at]);
  const auto kv_heads = f.integer(node.inputs[kv_heads_at]);
  const auto scale = f.number(node.inputs[scale_at]);
  if (heads != q->heads || kv_heads != dims[1] || !scale || f.integer(node.inputs[layout_at]) != kLayoutBnsd)
    return false;
  if (q->heads % dims[1] != 0 || q->features != q->heads * dims[3]) return false;
  // Set bits are hidden: columns after the token's own position.
  if (!mask->is_greater || mask->heads != 1 || mask->columns != dims[2] ||
      f.dtype(node.inputs[3]) != DType::Bool) {
    return false;
  }
  if (f.dims(node.inputs[3]) != Dims{f.batch, 1, f.tokens, dims[2]}) return false;
  f.state(node.outputs[0], f.attention(*q, *keys, *values, *scale, node.name));
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
  if (!keys) return false;
  // The band of sparse mode 0 must not hide anything.
  const int64_t length = f.cache_dims(keys->index)[2];
  const auto pre = f.integer(node.inputs[14]);
  const auto next = f.integer(node.inputs[15]);
  if (!pre || !next || *pre < length || *next < length) return false;
  return flash(f, node, node.inputs[1], node.inputs[2], 12, 16, 13, 17);
}

// q, (k), (v), mask, 11 unused, heads, layout, scale, kv heads, block size, inner precise
bool incremental_flash(Fuser& f, const Node& node) {
  if (node.inputs.size() != 21 || !all_none(f, node, 4, 15) || f.tokens != 1) return false;
  const auto* keys = f.elements(node.inputs[1]);
  const auto* values = f.elements(node.inputs[2]);
  if (!keys || !values || keys->size() != 1 || values->size() != 1) return false;
  return flash(f, node, keys->front(), values->front(), 15, 16, 17, 18);
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
