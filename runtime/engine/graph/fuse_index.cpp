// Integer arithmetic on positions, and what is looked up or compared with it.
#include <cstdlib>

#include "graph/fuse_facts.h"

namespace mllm::fusion {
namespace {

constexpr int64_t kMostElements = 1 << 20;  // of an index vector: slots times tokens

// An operand of index arithmetic: a fact, or constants (then the coefficients are zero).
std::optional<IndexVector> index_operand(const Fuser& f, ValueId v) {
  if (const auto* x = f.fact<IndexVector>(v)) return *x;
  if (f.is_tensor(v) && numel(f.dims(v)) > kMostElements) return std::nullopt;
  if (auto constant = f.integers(v)) {
    return IndexVector{0, 0, std::make_shared<const std::vector<int64_t>>(std::move(*constant))};
  }
  return std::nullopt;
}

// Flat index of each output element's source in an operand of shape `from` that is broadcast to `to`.
std::optional<std::vector<size_t>> broadcast_sources(const Dims& from, const Dims& to) {
  if (from.size() > to.size()) return std::nullopt;
  std::vector<size_t> sources{0};
  size_t stride = 1;
  std::vector<size_t> strides(to.size(), 0);
  for (size_t i = 0; i < from.size(); ++i) {
    const size_t axis = to.size() - 1 - i;
    const int64_t dim = from[from.size() - 1 - i];
    if (dim != to[axis] && dim != 1) return std::nullopt;
    strides[axis] = dim == 1 ? 0 : stride;
    stride *= static_cast<size_t>(dim);
  }
  for (size_t axis = 0; axis < to.size(); ++axis) {
    std::vector<size_t> next;
    next.reserve(sources.size() * static_cast<size_t>(to[axis]));
    for (const size_t s : sources) {
      for (int64_t i = 0; i < to[axis]; ++i) next.push_back(s + static_cast<size_t>(i) * strides[axis]);
    }
    sources = std::move(next);
  }
  return sources;
}

bool add_or_subtract(Fuser& f, const Node& node, int64_t sign) {
  const ValueId a_id = node.inputs[0];
  const ValueId b_id = node.inputs[1];
  if (!f.fact<IndexVector>(a_id) && !f.fact<IndexVector>(b_id)) return false;
  const auto a = index_operand(f, a_id);
  const auto b = index_operand(f, b_id);
  if (!a || !b) return false;
  const Dims& dims = f.dims(node.outputs[0]);
  const int64_t count = numel(dims);
  if (count < f.batch || count > kMostElements || count % f.batch != 0) return false;
  if (!f.spend_index_elements(count)) return false;
  const auto from_a = broadcast_sources(f.is_tensor(a_id) ? f.dims(a_id) : Dims{}, dims);
  const auto from_b = broadcast_sources(f.is_tensor(b_id) ? f.dims(b_id) : Dims{}, dims);
  if (!from_a || !from_b) return false;
  const int64_t valid = a->valid + sign * b->valid;
  const int64_t position = a->position + sign * b->position;
  if (std::abs(valid) > kMostElements || std::abs(position) > kMostElements)
    return false;  // doubled over and over
  std::vector<int64_t> sums(static_cast<size_t>(count));
  const size_t per_slot = sums.size() / static_cast<size_t>(f.batch);
  // An operand that depends on the slot must give each element the slot that the element's place says.
  const auto keeps_slot = [&](const IndexVector& x, size_t source, size_t i) {
    if (x.valid == 0 && x.position == 0) return true;
    return source / (x.constant->size() / static_cast<size_t>(f.batch)) == i / per_slot;
  };
  for (size_t i = 0; i < sums.size(); ++i) {
    const size_t ia = (*from_a)[i];
    const size_t ib = (*from_b)[i];
    if (!keeps_slot(*a, ia, i) || !keeps_slot(*b, ib, i)) return false;
    // Wrapping, as these may be any numbers of a file.
    sums[i] = static_cast<int64_t>(static_cast<uint64_t>((*a->constant)[ia]) +
                                   static_cast<uint64_t>(sign) * static_cast<uint64_t>((*b->constant)[ib]));
  }
  f.state(node.outputs[0],
          IndexVector{valid, position, std::make_shared<const std::vector<int64_t>>(std::move(sums))});
  return true;
}

bool add(Fuser& f, const Node& node) {
  return add_or_subtract(f, node, 1);
}

bool sub(Fuser& f, const Node& node) {
  return add_or_subtract(f, node, -1);
}

// Element i·T - 1 + batch_valid_length - input_position: the row of slot i's last valid token.
bool is_last_row(const Fuser& f, const IndexVector& x) {
  if (x.valid != 1 || x.position != -1 || x.constant->size() != static_cast<size_t>(f.batch)) return false;
  for (size_t i = 0; i < x.constant->size(); ++i) {
    if ((*x.constant)[i] != static_cast<int64_t>(i) * f.tokens - 1) return false;
  }
  return true;
}

// Features in another order, by an int32 parameter with one element for each.
bool reorder(Fuser& f, const Node& node) {
  if (node.inputs.size() != 4 || f.integer(node.inputs[3]) != 0) return false;
  const ValueId from = node.inputs[0];
  const ValueId order = node.inputs[1];
  const Rows* x = f.fact<Rows>(from);
  if (!x || x->heads != 0 || !has_feature_axis(f, from, *x) ||
      !f.is_axis(node.inputs[2], -1, f.dims(from).size()) || !f.is_parameter(order) ||
      f.old().value(order).type != TensorType{DType::Int32, {x->features}}) {
    return false;
  }
  f.state(node.outputs[0], f.reorder(*x, order, node.name));
  return true;
}

bool gather(Fuser& f, const Node& node) {
  if (node.inputs.size() != 4 || f.integer(node.inputs[2]) != 0 || f.integer(node.inputs[3]) != 0)
    return false;
  const ValueId from = node.inputs[0];
  const ValueId index_id = node.inputs[1];
  const Dims& dims = f.dims(from);
  if (dims.size() != 2) return false;
  if (f.fact<TokenIds>(index_id)) {
    const Weight* table = f.fact<Weight>(from);
    if (!table || !f.is_parameter(from) || f.dtype(from) == DType::Int8) return false;
    f.state(node.outputs[0], f.embedding(from, node.name));
    return true;
  }
  const auto* index = f.fact<IndexVector>(index_id);
  if (!index) return false;
  if (f.is_parameter(from) && f.dtype(from) == DType::Float32 && is_positions(f, *index)) {
    f.state(node.outputs[0], TableRows{from});
    return true;
  }
  if (const Rows* x = f.fact<Rows>(from)) {
    if (x->heads != 0 || x->last || dims != Dims{f.rows(), x->features} || !is_last_row(f, *index))
      return false;
    f.state(node.outputs[0], f.select_last(*x, node.name));
    return true;
  }
  return false;
}

// A constant 0, 1, … on the last axis of an otherwise one-element shape; returns its length.
std::optional<int64_t> columns(const Fuser& f, ValueId v) {
  const auto constant = f.old().value(v).kind == Value::Kind::Constant ? f.integers(v) : std::nullopt;
  if (!constant || f.dims(v).empty() || f.dims(v).back() != static_cast<int64_t>(constant->size()))
    return std::nullopt;
  for (size_t i = 0; i < constant->size(); ++i) {
    if ((*constant)[i] != static_cast<int64_t>(i)) return std::nullopt;
  }
  return static_cast<int64_t>(constant->size());
}

bool compare(Fuser& f, const Node& node, ValueId column_id, ValueId position_id, bool is_greater) {
  const auto* index = f.fact<IndexVector>(position_id);
  if (!index || !is_positions(f, *index) || f.dims(position_id).empty() || f.dims(position_id).back() != 1)
    return false;
  const auto count = columns(f, column_id);
  if (!count || numel(f.dims(node.outputs[0])) != f.rows() * *count) return false;
  f.state(node.outputs[0], Comparison{is_greater, *count, 1});
  return true;
}

bool equal(Fuser& f, const Node& node) {
  return compare(f, node, node.inputs[0], node.inputs[1], false) ||
         compare(f, node, node.inputs[1], node.inputs[0], false);
}

bool greater(Fuser& f, const Node& node) {
  return compare(f, node, node.inputs[0], node.inputs[1], true);
}

bool less(Fuser& f, const Node& node) {
  return compare(f, node, node.inputs[1], node.inputs[0], true);
}

constexpr NamedRule kRules[] = {
    {"Add", add},     {"Sub", sub},         {"Gather", gather}, {"Gather", reorder},
    {"Equal", equal}, {"Greater", greater}, {"Less", less},
};

}  // namespace

std::span<const NamedRule> index_rules() {
  return kRules;
}

bool is_positions(const Fuser& fuser, const IndexVector& index) {
  if (index.valid != 0 || index.position != 1) return false;
  if (index.constant->size() != static_cast<size_t>(fuser.rows())) return false;
  for (size_t i = 0; i < index.constant->size(); ++i) {
    if ((*index.constant)[i] != static_cast<int64_t>(i) % fuser.tokens) return false;
  }
  return true;
}

}  // namespace mllm::fusion
