// Writing this call's rows into a cache: by mask arithmetic, cache * (1 - sum of one-hot rows) + one-hot^T *
// rows, and by KVCacheScatterUpdate. What goes into int8 caches is made in fuse_int8_cache.cpp.
#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

bool count_written(Fuser& f, const Node& node) {
  const auto* x = f.fact<Comparison>(node.inputs[0]);
  if (!x || x->is_greater || x->heads != 1 || f.dtype(node.inputs[0]) != DType::Float32) return false;
  if (f.dims(node.inputs[0]) != Dims{f.batch, f.tokens, x->columns} || !f.is_axis(node.inputs[1], 1, 3))
    return false;
  f.state(node.outputs[0], WrittenCount{x->columns});
  return true;
}

bool one_minus(Fuser& f, const Node& node) {
  const auto* x = f.fact<WrittenCount>(node.inputs[1]);
  if (!x || f.number(node.inputs[0]) != 1.0 || f.dims(node.inputs[1]) != f.dims(node.outputs[0]))
    return false;
  f.state(node.outputs[0], Kept{x->columns});
  return true;
}

// The cache input itself (cast to float32) with rows zeroed.
bool clear_rows(Fuser& f, const Node& node) {
  const auto p = f.pair<Cache, Kept>(node);
  if (!p || p.a->value != kNoValue || p.a->group != 1) return false;
  const Dims& dims = f.cache_dims(p.a->index);
  if (f.dims(p.a_id) != dims || f.dtype(p.a_id) != DType::Float32) return false;
  if (p.b->columns != dims[2] || f.dims(p.b_id) != Dims{dims[0], 1, dims[2], 1}) return false;
  f.state(node.outputs[0], CacheKept{p.a->index});
  return true;
}

bool spread_rows(Fuser& f, const Node& node) {
  if (node.inputs.size() != 4 || f.integer(node.inputs[2]) != 1 || f.integer(node.inputs[3]) != 0)
    return false;
  const auto* where = f.fact<Comparison>(node.inputs[0]);
  const auto content = cache_content(f, node.inputs[1]);
  if (!where || where->is_greater || !content || f.dtype(node.inputs[1]) != DType::Float32) return false;
  const int64_t heads = content->rows.heads;
  if (where->heads != heads || f.dims(node.inputs[0]) != Dims{f.batch, heads, f.tokens, where->columns})
    return false;
  f.state(node.outputs[0], CacheRows{*content});
  return true;
}

bool fits(const Fuser& f, size_t cache, const CacheContent& content) {
  const Dims& dims = f.cache_dims(cache);
  const Rows& x = content.rows;
  if (x.last || x.heads != dims[1] || f.is_written(cache)) return false;
  const DType dtype = f.cache_dtype(cache);
  if (content.kind == CacheContent::Kind::RowScales) return dtype == DType::Float32 && dims[3] == 1;
  if (x.features != dims[1] * dims[3]) return false;
  if (content.kind == CacheContent::Kind::ChannelCodes && f.dims(content.scale) != Dims{dims[1], dims[3]})
    return false;
  return (content.kind != CacheContent::Kind::Rows) == (dtype == DType::Int8);
}

bool sum(Fuser& f, const Node& node) {
  const auto p = f.pair<CacheKept, CacheRows>(node);
  if (!p || !fits(f, p.a->index, p.b->content)) return false;
  const Dims& dims = f.cache_dims(p.a->index);
  if (f.dims(p.a_id) != dims || f.dims(p.b_id) != dims) return false;
  const CacheSum y{p.a->index, p.b->content};
  if (f.cache_dtype(y.index) == DType::Float32) {
    f.state(node.outputs[0], f.write_cache(y.index, y.content, node.name));
  } else {
    f.state(node.outputs[0], y);
  }
  return true;
}

bool round_to_cache(Fuser& f, const Node& node) {
  const auto* x = f.fact<CacheSum>(node.inputs[0]);
  if (!x || f.dtype(node.outputs[0]) != f.cache_dtype(x->index) || f.is_written(x->index)) return false;
  f.state(node.outputs[0], f.write_cache(x->index, x->content, node.name));
  return true;
}

constexpr int64_t kUpdate = 3;

// cache, first position of each slot, rows, axis, reduction
bool scatter(Fuser& f, const Node& node) {
  if (node.inputs.size() < 5) return false;
  const auto* cache = f.fact<Cache>(node.inputs[0]);
  const auto* first = f.fact<IndexVector>(node.inputs[1]);
  const auto content = cache_content(f, node.inputs[2]);
  if (!cache || cache->value != kNoValue || cache->group != 1 || !first || !content) return false;
  const Dims& dims = f.cache_dims(cache->index);
  if (f.dims(node.inputs[0]) != dims || f.dtype(node.inputs[0]) != f.cache_dtype(cache->index)) return false;
  if (first->valid != 0 || first->position != 1 ||
      *first->constant != std::vector<int64_t>(static_cast<size_t>(dims[0]), 0))
    return false;
  if (!fits(f, cache->index, *content)) return false;
  if (!f.is_axis(node.inputs[3], -2, 4) || f.integer(node.inputs[4]) != kUpdate) return false;
  f.state(node.outputs[0], f.write_cache(cache->index, *content, node.name));
  return true;
}

constexpr NamedRule kRules[] = {
    {"ReduceSum", count_written},      {"Sub", one_minus}, {"Mul", clear_rows},
    {"BatchMatMul", spread_rows},      {"Add", sum},       {"Cast", round_to_cache},
    {"KVCacheScatterUpdate", scatter},
};

}  // namespace

std::span<const NamedRule> cache_rules() {
  return kRules;
}

}  // namespace mllm::fusion
