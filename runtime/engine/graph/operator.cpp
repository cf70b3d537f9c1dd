#include "graph/operator.h"

#include <cstring>
#include <unordered_map>
#include <variant>

#include "base/error.h"
#include "base/half.h"
#include "kernels/tables.h"

namespace mllm {
namespace {

const std::unordered_map<std::string_view, const Operator*>& table() {
  static const auto* const all = [] {
    auto* map = new std::unordered_map<std::string_view, const Operator*>();
    for (const auto group : {basic_operators(), ascend_operators(), fused_operators()}) {
      for (const Operator& op : group) map->emplace(op.name, &op);
    }
    return map;
  }();
  return *all;
}

bool holds_tensor(Value::Kind kind) {
  return kind != Value::Kind::Literal && kind != Value::Kind::Tuple;
}

}  // namespace

const Operator* find_operator(std::string_view name) {
  const auto it = table().find(name);
  return it == table().end() ? nullptr : it->second;
}

std::vector<std::string_view> operator_names() {
  std::vector<std::string_view> names;
  for (const auto& [name, op] : table()) names.push_back(name);
  return names;
}

void OpArgs::unsupported(const std::string& why) const {
  fail_unsupported(graph_.file + ": node " + node_.name + " (" + node_.op + "): " + why);
}

void OpArgs::invalid(const std::string& why) const {
  fail_format(graph_.file + ": node " + node_.name + " (" + node_.op + "): " + why);
}

namespace {

const Value& operand(const OpArgs& args, size_t i) {
  if (i >= args.count()) args.invalid("operand " + std::to_string(i) + " is missing");
  return args.graph().value(args.node().inputs[i]);
}

}  // namespace

bool OpArgs::is_none(size_t i) const {
  const Value& v = operand(*this, i);
  return v.kind == Value::Kind::Literal && std::holds_alternative<std::monostate>(v.literal.value);
}

bool OpArgs::is_tensor(size_t i) const {
  return holds_tensor(operand(*this, i).kind);
}

const TensorType& OpArgs::type(size_t i) const {
  const Value& v = operand(*this, i);
  if (!holds_tensor(v.kind)) invalid("operand " + std::to_string(i) + " must be a tensor");
  return v.type;
}

std::vector<ValueId> OpArgs::tuple(size_t i) const {
  const Value& v = operand(*this, i);
  if (v.kind != Value::Kind::Tuple) invalid("operand " + std::to_string(i) + " must be a tuple of tensors");
  for (const ValueId e : v.elements) {
    if (!holds_tensor(graph_.value(e).kind))
      invalid("operand " + std::to_string(i) + " must hold tensors only");
  }
  return v.elements;
}

namespace {

// One number of a constant tensor, as MindSpore accepts tensors where numbers are declared.
std::variant<int64_t, double> constant_number(const OpArgs& args, const Value& v, size_t i, size_t index) {
  const auto* p = static_cast<const uint8_t*>(v.tensor.data) + index * dtype_size(v.type.dtype);
  const auto read = [p](auto& number) { std::memcpy(&number, p, sizeof number); };
  switch (v.type.dtype) {
    case DType::Int32: {
      int32_t n = 0;
      read(n);
      return int64_t{n};
    }
    case DType::Int64: {
      int64_t n = 0;
      read(n);
      return n;
    }
    case DType::Bool:
      return int64_t{*p != 0};
    case DType::Float16: {
      uint16_t n = 0;
      read(n);
      return static_cast<double>(half_to_float(n));
    }
    case DType::Float32: {
      float n = 0;
      read(n);
      return static_cast<double>(n);
    }
    case DType::Float64: {
      double n = 0;
      read(n);
      return n;
    }
    default:
      args.unsupported("operand " + std::to_string(i) + ": a constant of type " + dtype_name(v.type.dtype));
  }
}

}  // namespace

int64_t OpArgs::int_at(size_t i) const {
  const Value& v = operand(*this, i);
  if (v.kind == Value::Kind::Constant && v.tensor.size() == 1) {
    const auto number = constant_number(*this, v, i, 0);
    if (const auto* n = std::get_if<int64_t>(&number)) return *n;
  }
  if (v.kind == Value::Kind::Literal) {
    if (const auto* n = std::get_if<int64_t>(&v.literal.value)) return *n;
    if (const auto* b = std::get_if<bool>(&v.literal.value)) return *b;
  }
  invalid("operand " + std::to_string(i) + " must be a constant integer");
}

double OpArgs::float_at(size_t i) const {
  const Value& v = operand(*this, i);
  if (v.kind == Value::Kind::Constant && v.tensor.size() == 1) {
    return std::visit([](auto n) { return static_cast<double>(n); }, constant_number(*this, v, i, 0));
  }
  if (v.kind == Value::Kind::Literal) {
    if (const auto* d = std::get_if<double>(&v.literal.value)) return *d;
    if (const auto* n = std::get_if<int64_t>(&v.literal.value)) return static_cast<double>(*n);
  }
  invalid("operand " + std::to_string(i) + " must be a constant number");
}

bool OpArgs::bool_at(size_t i) const {
  return int_at(i) != 0;
}

std::vector<int64_t> OpArgs::ints_at(size_t i) const {
  const Value& v = operand(*this, i);
  std::vector<int64_t> out;
  if (v.kind == Value::Kind::Constant && v.type.dims.size() <= 1) {
    const int64_t count = v.tensor.size();
    for (int64_t k = 0; k < count; ++k) {
      const auto number = constant_number(*this, v, i, static_cast<size_t>(k));
      const auto* n = std::get_if<int64_t>(&number);
      if (!n) invalid("operand " + std::to_string(i) + " must hold integers only");
      out.push_back(*n);
    }
    return out;
  }
  if (v.kind == Value::Kind::Literal) {
    if (const auto* items = std::get_if<LiteralTuple>(&v.literal.value)) {
      for (const Literal& item : *items) {
        const auto* n = std::get_if<int64_t>(&item.value);
        if (!n) invalid("operand " + std::to_string(i) + " must hold integers only");
        out.push_back(*n);
      }
      return out;
    }
    return {int_at(i)};
  }
  invalid("operand " + std::to_string(i) + " must be a constant tuple of integers");
}

const Literal* OpArgs::attribute(std::string_view name) const {
  const auto it = node_.attributes.find(std::string(name));
  return it == node_.attributes.end() ? nullptr : &it->second;
}

int64_t OpArgs::attribute_int(std::string_view name, std::optional<int64_t> fallback) const {
  const Literal* l = attribute(name);
  if (!l && fallback) return *fallback;
  if (l) {
    if (const auto* n = std::get_if<int64_t>(&l->value)) return *n;
    if (const auto* b = std::get_if<bool>(&l->value)) return *b;
  }
  invalid("attribute " + std::string(name) + " must be an integer");
}

double OpArgs::attribute_float(std::string_view name) const {
  const Literal* l = attribute(name);
  if (l) {
    if (const auto* d = std::get_if<double>(&l->value)) return *d;
    if (const auto* n = std::get_if<int64_t>(&l->value)) return static_cast<double>(*n);
  }
  invalid("attribute " + std::string(name) + " must be a number");
}

}  // namespace mllm
