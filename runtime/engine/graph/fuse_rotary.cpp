// x * cos + concat(-second half, first half) * sin per head, and ApplyRotaryPosEmb.
#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

bool half(Fuser& f, const Node& node) {
  const Rows* x = f.fact<Rows>(node.inputs[0]);
  if (!x || !has_head_axes(f, node.inputs[0], *x)) return false;
  const auto range = last_axis_slice(f, node);
  const int64_t size = x->features / x->heads;
  if (!range || size % 2 != 0) return false;
  const bool is_second = range->first == size / 2 && range->second == size;
  if (!is_second && (range->first != 0 || range->second != size / 2)) return false;
  f.state(node.outputs[0], HalfOfHead{*x, is_second, false});
  return true;
}

bool negate(Fuser& f, const Node& node) {
  const auto* x = f.fact<HalfOfHead>(node.inputs[0]);
  if (!x) return false;
  HalfOfHead y = *x;
  y.is_negated = !y.is_negated;
  f.state(node.outputs[0], y);
  return true;
}

bool join(Fuser& f, const Node& node) {
  const auto* parts = f.elements(node.inputs[0]);
  if (!parts || parts->size() != 2 || node.inputs.size() < 2) return false;
  const auto* a = f.fact<HalfOfHead>((*parts)[0]);
  const auto* b = f.fact<HalfOfHead>((*parts)[1]);
  if (!a || !b || !same_rows(a->x, b->x)) return false;
  if (!a->is_second || !a->is_negated || b->is_second || b->is_negated) return false;
  const Dims half_dims{f.batch, a->x.heads, f.tokens, a->x.features / a->x.heads / 2};
  if (f.dims((*parts)[0]) != half_dims || f.dims((*parts)[1]) != half_dims) return false;
  if (!f.is_axis(node.inputs[1], -1, 4)) return false;
  f.state(node.outputs[0], RotatedHalf{a->x});
  return true;
}

// Tables for every position of the caches.
bool covers_caches(const Fuser& f, ValueId table) {
  return f.dims(table)[0] >= f.cache_dims(0)[2];
}

// [B, H, T, D] times the table rows as [B, 1, T, D].
bool times_table(Fuser& f, const Node& node) {
  RotaryTerm term;
  ValueId x_id = kNoValue;
  ValueId table_id = kNoValue;
  if (const auto p = f.pair<Rows, TableRows>(node)) {
    term = {*p.a, p.b->table, false};
    x_id = p.a_id;
    table_id = p.b_id;
  } else if (const auto q = f.pair<RotatedHalf, TableRows>(node)) {
    term = {q.a->x, q.b->table, true};
    x_id = q.a_id;
    table_id = q.b_id;
  } else {
    return false;
  }
  if (!has_head_axes(f, x_id, term.x)) return false;
  const int64_t size = term.x.features / term.x.heads;
  if (f.dims(term.table)[1] != size || f.dims(table_id) != Dims{f.batch, 1, f.tokens, size}) return false;
  f.state(node.outputs[0], term);
  return true;
}

bool sum(Fuser& f, const Node& node) {
  const auto p = f.pair<RotaryTerm, RotaryTerm>(node);
  if (!p || !same_rows(p.a->x, p.b->x) || p.a->is_rotated == p.b->is_rotated ||
      f.dims(p.a_id) != f.dims(p.b_id)) {
    return false;
  }
  const RotaryTerm& cos = p.a->is_rotated ? *p.b : *p.a;
  const RotaryTerm& sin = p.a->is_rotated ? *p.a : *p.b;
  if (f.dims(cos.table) != f.dims(sin.table) || !covers_caches(f, cos.table)) return false;
  f.state(node.outputs[0], f.rotary(cos.x, cos.table, sin.table, node.name));
  return true;
}

constexpr int64_t kHalfRotationGathered = 2;

// q, k [rows, features], cos, sin, positions (unused in this format), format
bool apply(Fuser& f, const Node& node) {
  if (node.inputs.size() != 6 || node.outputs.size() != 2) return false;
  if (f.integer(node.inputs[5]) != kHalfRotationGathered) return false;
  const auto* cos = f.fact<TableRows>(node.inputs[2]);
  const auto* sin = f.fact<TableRows>(node.inputs[3]);
  if (!cos || !sin || f.dims(cos->table) != f.dims(sin->table) || !covers_caches(f, cos->table)) return false;
  const int64_t size = f.dims(cos->table)[1];
  const Dims gathered{f.rows(), size};
  if (size % 2 != 0 || f.dims(node.inputs[2]) != gathered || f.dims(node.inputs[3]) != gathered) return false;
  for (size_t i = 0; i < 2; ++i) {
    const Rows* x = f.fact<Rows>(node.inputs[i]);
    if (!x || x->heads != 0 || x->last || x->features % size != 0) return false;
    if (f.dims(node.inputs[i]) != Dims{f.rows(), x->features}) return false;
  }
  for (size_t i = 0; i < 2; ++i) {
    const Rows x = *f.fact<Rows>(node.inputs[i]);
    f.state(node.outputs[i], f.rotary(x, cos->table, sin->table, node.name));
  }
  return true;
}

constexpr NamedRule kRules[] = {
    {"StridedSlice", half}, {"Neg", negate}, {"Concat", join},
    {"Mul", times_table},   {"Add", sum},    {"ApplyRotaryPosEmb", apply},
};

}  // namespace

std::span<const NamedRule> rotary_rules() {
  return kRules;
}

}  // namespace mllm::fusion
