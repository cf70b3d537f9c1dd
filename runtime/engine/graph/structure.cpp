#include "graph/structure.h"

#include <cmath>
#include <cstring>
#include <string_view>
#include <unordered_map>

#include "base/error.h"
#include "graph/operator.h"

namespace mllm {
namespace {

using Result = StructuralResult;

Result alias(ValueId id) {
  Result r;
  r.kind = Result::Kind::Alias;
  r.value = id;
  return r;
}

Result literal(Literal l) {
  Result r;
  r.kind = Result::Kind::Literal;
  r.literal = std::move(l);
  return r;
}

Result make_tuple(const OpArgs& args) {
  Result r;
  r.kind = Result::Kind::Tuple;
  r.elements = args.node().inputs;
  return r;
}

Result get_item(const OpArgs& args) {
  const int64_t index = args.int_at(1);
  const Value& v = args.graph().value(args.node().inputs[0]);
  const auto at = [&](size_t size) {
    const int64_t i = index < 0 ? index + static_cast<int64_t>(size) : index;
    if (i < 0 || i >= static_cast<int64_t>(size)) {
      args.invalid("item " + std::to_string(index) + " of a tuple of " + std::to_string(size));
    }
    return static_cast<size_t>(i);
  };
  if (v.kind == Value::Kind::Tuple) return alias(v.elements[at(v.elements.size())]);
  if (v.kind == Value::Kind::Literal) {
    if (const auto* items = std::get_if<LiteralTuple>(&v.literal.value))
      return literal((*items)[at(items->size())]);
  }
  args.invalid("operand 0 must be a tuple");
}

Result first_operand(const OpArgs& args) {
  if (args.count() == 0) args.invalid("operand 0 is missing");
  return alias(args.node().inputs[0]);
}

Result state(const OpArgs&) {
  return literal({});
}

Result shape(const OpArgs& args) {
  LiteralTuple items;
  for (const int64_t d : args.dims(0)) items.push_back({d});
  return literal({std::move(items)});
}

template <class F>
Result arithmetic(const OpArgs& args, F&& apply) {
  return literal({apply(args.int_at(0), args.int_at(1))});
}

// Wrapping arithmetic: a hostile constant must not overflow into undefined behaviour.
int64_t wrap(uint64_t v) {
  return static_cast<int64_t>(v);
}
Result scalar_add(const OpArgs& a) {
  return arithmetic(
      a, [](int64_t x, int64_t y) { return wrap(static_cast<uint64_t>(x) + static_cast<uint64_t>(y)); });
}
Result scalar_sub(const OpArgs& a) {
  return arithmetic(
      a, [](int64_t x, int64_t y) { return wrap(static_cast<uint64_t>(x) - static_cast<uint64_t>(y)); });
}
Result scalar_mul(const OpArgs& a) {
  return arithmetic(
      a, [](int64_t x, int64_t y) { return wrap(static_cast<uint64_t>(x) * static_cast<uint64_t>(y)); });
}
Result scalar_floor_div(const OpArgs& a) {
  return arithmetic(a, [&](int64_t x, int64_t y) {
    if (y == 0 || (x == INT64_MIN && y == -1)) a.invalid("division by zero or overflow");
    return x / y - ((x % y != 0) && ((x < 0) != (y < 0)));
  });
}

Result tensor_to_tuple(const OpArgs& args) {
  LiteralTuple items;
  for (const int64_t n : args.ints_at(0)) items.push_back({n});
  return literal({std::move(items)});
}

// A constant int64 tensor from numbers (TupleToTensor, ScalarToTensor); other result types are rare and
// refused.
Result to_tensor(const OpArgs& args) {
  const std::vector<int64_t> numbers = args.ints_at(0);
  const Value& source = args.graph().value(args.node().inputs[0]);
  const bool is_tuple =
      source.kind == Value::Kind::Literal && std::holds_alternative<LiteralTuple>(source.literal.value);
  constexpr int64_t kInt64Id = 35;
  if (args.count() > 1 && !args.is_none(1) && args.int_at(1) != kInt64Id)
    args.unsupported("only int64 results are supported");
  Result r;
  r.kind = Result::Kind::Tensor;
  r.tensor = allocate(DType::Int64, is_tuple ? Dims{static_cast<int64_t>(numbers.size())} : Dims{});
  std::memcpy(r.tensor.data, numbers.data(), numbers.size() * sizeof(int64_t));
  return r;
}

using Function = Result (*)(const OpArgs&);

const std::unordered_map<std::string_view, Function>& table() {
  static const std::unordered_map<std::string_view, Function> kTable = {
      {"MakeTuple", make_tuple},
      {"MakeList", make_tuple},
      {"make_list", make_tuple},
      {"RealMakeTuple", make_tuple},
      {"TupleGetItem", get_item},
      {"ListGetItem", get_item},
      {"list_getitem", get_item},
      {"RealTupleGetItem", get_item},
      {"Depend", first_operand},
      {"Load", first_operand},
      {"StopGradient", first_operand},
      {"UpdateState", state},
      {"Shape", shape},
      {"ScalarAdd", scalar_add},
      {"ScalarSub", scalar_sub},
      {"ScalarMul", scalar_mul},
      {"ScalarFloorDiv", scalar_floor_div},
      {"TensorToTuple", tensor_to_tuple},
      {"TupleToTensor", to_tensor},
      {"ScalarToTensor", to_tensor},
  };
  return kTable;
}

}  // namespace

StructuralResult evaluate_structural(const Graph& graph, const Node& node) {
  const auto it = table().find(node.op);
  if (it == table().end()) return {};
  return it->second(OpArgs(graph, node));
}

bool is_structural(std::string_view primitive) {
  return table().contains(primitive);
}

}  // namespace mllm
