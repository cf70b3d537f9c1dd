#include "graph/interpreter.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "graph/file_types.h"
#include "graph/structure.h"

namespace mllm {
namespace {

// Bounds on what a file may ask for, far above any real network, so that a hostile one cannot spin or eat
// memory. Functions are inlined, so a short file can ask for much.
constexpr int kMaxCallDepth = 64;
constexpr size_t kMaxNodes = size_t{1} << 17;
constexpr size_t kMaxRank = 16;
constexpr size_t kMaxItems = size_t{1} << 22;        // of all tuples together
constexpr size_t kMaxTupleLeaves = size_t{1} << 14;  // of one tuple of tensors
constexpr size_t kMaxTupleDepth = 32;
constexpr size_t kMaxFoldBytes = size_t{16} << 20;        // operands and results of one folded node
constexpr size_t kMaxTotalFoldBytes = size_t{256} << 20;  // results of all folded nodes

// Items of a literal, nested ones included; counts no deeper than kMaxTupleDepth + 1.
size_t literal_items(const Literal& l, size_t depth, size_t& deepest) {
  const auto* items = std::get_if<LiteralTuple>(&l.value);
  if (!items) return 1;
  deepest = std::max(deepest, depth + 1);
  if (depth > kMaxTupleDepth) return 1;
  size_t count = 1;
  for (const Literal& item : *items) count += literal_items(item, depth + 1, deepest);
  return count;
}

}  // namespace

Interpreter::Interpreter(const std::string& path, const FileTables& tables, ThreadPool& pool)
    : path_(path), tables_(tables), pool_(pool) {
  graph_.file = path;
}

ValueId Interpreter::add(Value v) {
  tensors_.push_back(v.kind == Value::Kind::Constant ? v.tensor : Tensor{});
  return graph_.add_value(std::move(v));
}

void Interpreter::define(Frame& frame, std::string_view name, ValueId id) {
  if (!frame.emplace(name, id).second)
    fail_format(path_ + ": two nodes, inputs or parameters are named '" + std::string(name) + "'");
}

void Interpreter::add_parameter(std::string_view name, Tensor tensor) {
  Value v;
  v.kind = Value::Kind::Parameter;
  v.name = std::string(name);
  v.type = tensor.type();
  v.tensor = std::move(tensor);
  define(parameters_, name, add(std::move(v)));
}

void Interpreter::add_input(std::string_view name, const TensorType& type) {
  Value v;
  v.kind = Value::Kind::Input;
  v.name = std::string(name);
  v.type = type;
  const ValueId id = add(std::move(v));
  graph_.inputs.push_back(id);
  define(main_, name, id);
}

Graph Interpreter::run(const mindir::GraphMessage& main) {
  for (const auto& [name, id] : parameters_) define(main_, name, id);
  run_graph(main, main_, 0);
  if (main.outputs.size() != 1) fail_format(path_ + ": the graph must have one output entry");
  NodeMessage reader;
  reader.name = main.outputs[0].name;
  reader.op_type = "output";
  flatten_output(find(main_, reader.name, reader), std::string(reader.name));
  return std::move(graph_);
}

// ---- walking nodes and calls

ValueId Interpreter::find(const Frame& frame, std::string_view name, const NodeMessage& user) const {
  if (const auto it = frame.find(name); it != frame.end()) return it->second;
  if (const auto it = parameters_.find(name); it != parameters_.end()) return it->second;
  if (tables_.functions.contains(name)) {
    fail_unsupported(node_text(user) + ": control flow (a closure over graph '" + std::string(name) +
                     "') is not supported");
  }
  fail_format(node_text(user) + ": uses '" + std::string(name) +
              "', which nothing before it defines: the graph is cyclic, out of order or incomplete");
}

std::string Interpreter::node_text(const NodeMessage& n) const {
  return path_ + ": node " + std::string(n.name) + " (" + std::string(n.op_type) + ")";
}

void Interpreter::run_graph(const mindir::GraphMessage& g, Frame& frame, int depth) {
  if (depth > kMaxCallDepth) {
    fail_unsupported(path_ + ": calls of function '" + std::string(g.name) +
                     "' nest more than 64 deep (recursion?)");
  }
  for (const auto& n : g.nodes) {
    if (++executed_ > kMaxNodes) {
      fail_unsupported(path_ + ": the graph expands to more than " + std::to_string(kMaxNodes) + " nodes");
    }
    define(frame, n.name, evaluate(n, frame, depth));
  }
}

ValueId Interpreter::evaluate(const NodeMessage& n, const Frame& frame, int depth) {
  if (n.op_type == "Constant") return constant(n);
  const std::string_view target = referenced_name(n.op_type);
  if (target.empty()) fail_format(node_text(n) + ": unknown kind of node");
  std::vector<ValueId> inputs;
  inputs.reserve(n.inputs.size());
  if (const auto it = tables_.primitives.find(target); it != tables_.primitives.end()) {
    for (const auto name : n.inputs) inputs.push_back(find(frame, name, n));
    return primitive(n, *it->second, std::move(inputs));
  }
  if (const auto it = tables_.functions.find(target); it != tables_.functions.end()) {
    for (const auto name : n.inputs) inputs.push_back(find(frame, name, n));
    return call(n, *it->second, inputs, depth);
  }
  fail_unsupported(node_text(n) + ": calls a closure; control flow is not supported");
}

ValueId Interpreter::call(const NodeMessage& n, const mindir::GraphMessage& f,
                          const std::vector<ValueId>& arguments, int depth) {
  if (f.inputs.size() != arguments.size()) {
    fail_format(node_text(n) + ": passes " + std::to_string(arguments.size()) +
                " arguments to a function of " + std::to_string(f.inputs.size()));
  }
  Frame frame;
  for (size_t i = 0; i < arguments.size(); ++i) define(frame, f.inputs[i].name, arguments[i]);
  run_graph(f, frame, depth + 1);
  if (f.outputs.size() != 1) fail_format(node_text(n) + ": the function must have one output entry");
  return find(frame, f.outputs[0].name, n);
}

ValueId Interpreter::primitive(const NodeMessage& n, const mindir::PrimitiveMessage& p,
                               std::vector<ValueId> inputs) {
  const std::string op(p.op_type);
  Node node{op, std::string(n.name), std::move(inputs), {}, {}};
  StructuralResult result = evaluate_structural(graph_, node);
  switch (result.kind) {
    case StructuralResult::Kind::Alias:
      return result.value;
    case StructuralResult::Kind::Literal:
      return literal(std::move(result.literal), node.name);
    case StructuralResult::Kind::Tuple:
      return make_tuple(std::move(result.elements), node.name);
    case StructuralResult::Kind::Tensor:
      return constant_tensor(std::move(result.tensor), node.name);
    case StructuralResult::Kind::NotStructural:
      break;
  }
  ++graph_.operator_counts[op];
  const Operator* definition = find_operator(op);
  if (!definition || op.starts_with("fused.")) {
    fail_unsupported(path_ + ": node " + node.name + ": the engine has no operator for primitive " + op);
  }
  for (const auto& a : p.attributes) {
    using mindir::AttributeType;
    const auto type = static_cast<AttributeType>(a.type);
    if (type == AttributeType::Int64 || type == AttributeType::Bool || type == AttributeType::Float ||
        type == AttributeType::String) {
      node.attributes.emplace(std::string(a.name), scalar(a, n, false));
    }
  }
  return compute(n, std::move(node), *definition);
}

// ---- computing nodes

std::vector<TensorType> Interpreter::infer(const Node& node, const Operator& definition) const {
  const std::string where = path_ + ": node " + node.name + " (" + node.op + ")";
  try {
    std::vector<TensorType> types = definition.infer(OpArgs(graph_, node));
    for (const TensorType& type : types) {
      if (type.dims.size() > kMaxRank)
        fail_unsupported("a result of rank " + std::to_string(type.dims.size()));
      nbytes(type.dtype, type.dims);  // refuses shapes that overflow
    }
    return types;
  } catch (const Error& e) {
    // Checks of shapes do not know the node.
    if (std::string_view(e.what()).starts_with(path_)) throw;
    throw Error(e.status(), where + ": " + e.what());
  }
}

ValueId Interpreter::compute(const NodeMessage& n, Node node, const Operator& definition) {
  const std::vector<TensorType> types = infer(node, definition);
  const bool declared_tuple = check_declared_types(n, node, types);
  const bool in_place = definition.in_place_input >= 0;
  if (in_place) {
    const ValueId target = node.inputs.at(static_cast<size_t>(definition.in_place_input));
    if (graph_.value(target).kind == Value::Kind::Constant)
      fail_unsupported(path_ + ": node " + node.name + " (" + node.op + "): writes into a constant");
  }
  const bool folds = !in_place && foldable(node, types);
  for (const TensorType& type : types) {
    Value v;
    v.name = node.name;
    v.type = type;
    v.producer = static_cast<int32_t>(graph_.nodes.size());
    if (in_place && node.outputs.empty())
      v.alias_of = node.inputs[static_cast<size_t>(definition.in_place_input)];
    node.outputs.push_back(add(std::move(v)));
  }
  const std::vector<ValueId> outputs = node.outputs;
  if (folds) {
    fold(node, definition);
  } else {
    graph_.nodes.push_back(std::move(node));
  }
  if (outputs.size() == 1 && !declared_tuple) return outputs[0];
  return make_tuple(outputs, std::string(n.name));
}

// The exporter writes each node's result type; ours must agree, or one of us is wrong about the primitive.
bool Interpreter::check_declared_types(const NodeMessage& n, const Node& node,
                                       const std::vector<TensorType>& types) const {
  const auto* shape = find_attribute(n.attributes, "shape");
  if (!shape) return false;
  std::vector<const mindir::TensorMessage*> declared;
  const bool tuple = static_cast<mindir::AttributeType>(shape->type) == mindir::AttributeType::Tuple;
  if (tuple) {
    for (const auto& item : shape->values) {
      if (item.tensors.size() != 1) return tuple;
      declared.push_back(&item.tensors[0]);
    }
  } else {
    for (const auto& t : shape->tensors) declared.push_back(&t);
  }
  if (declared.empty()) return tuple;
  const std::string where = path_ + ": node " + node.name + " (" + node.op + ")";
  if (declared.size() != types.size()) {
    fail_format(where + ": the file declares " + std::to_string(declared.size()) +
                " outputs, the primitive has " + std::to_string(types.size()));
  }
  for (size_t i = 0; i < types.size(); ++i) {
    const auto& t = *declared[i];
    if (t.dims == kUnknownRank) continue;
    const DType dtype = dtype_of(t.data_type, where);
    bool same = t.dims.size() == types[i].dims.size() && dtype == types[i].dtype;
    for (size_t k = 0; same && k < t.dims.size(); ++k)
      same = t.dims[k] == kUnknownDim || t.dims[k] == types[i].dims[k];
    if (!same) {
      fail_format(where + ": the file declares output " + std::to_string(i) + " as " + dtype_name(dtype) +
                  dims_text(t.dims) + ", its operands give " + dtype_name(types[i].dtype) +
                  dims_text(types[i].dims));
    }
  }
  return tuple;
}

bool Interpreter::is_constant(ValueId id) const {
  const Value& v = graph_.value(id);
  if (v.kind == Value::Kind::Tuple) {
    return std::all_of(v.elements.begin(), v.elements.end(), [&](ValueId e) { return is_constant(e); });
  }
  return v.kind == Value::Kind::Constant || v.kind == Value::Kind::Literal;
}

bool Interpreter::foldable(const Node& node, const std::vector<TensorType>& types) {
  size_t results = 0;
  size_t operands = 0;
  for (const TensorType& t : types) {
    results += nbytes(t.dtype, t.dims);
    if (results > kMaxFoldBytes) return false;
  }
  for (const ValueId id : node.inputs) {
    if (!is_constant(id)) return false;
    const Value& v = graph_.value(id);
    if (v.kind == Value::Kind::Constant) operands += v.tensor.bytes();
  }
  // Repeating a number a million times is no constant worth having: the node stays.
  constexpr size_t kMostRepeated = 64 << 10;
  if (node.op == "BroadcastTo" && results > kMostRepeated && results > operands) return false;
  if (operands > kMaxFoldBytes || folded_bytes_ + results > kMaxTotalFoldBytes) return false;
  folded_bytes_ += results;
  return true;
}

void Interpreter::fold(const Node& node, const Operator& definition) {
  for (const ValueId id : node.outputs) {
    Value& v = graph_.value(id);
    v.kind = Value::Kind::Constant;
    v.producer = -1;
    v.tensor = allocate(v.type.dtype, v.type.dims);
    tensors_[static_cast<size_t>(id)] = v.tensor;
  }
  const OpArgs args(graph_, node);
  Tensor scratch;
  RunContext context{graph_, tensors_, pool_};
  if (definition.scratch_bytes) {
    scratch = allocate(DType::UInt8, {static_cast<int64_t>(definition.scratch_bytes(args, pool_.threads()))});
    context.scratch = scratch.data;
  }
  definition.run(args, context);
}

// ---- constants and tuples

void Interpreter::spend_items(size_t count) {
  items_ += count;
  if (items_ > kMaxItems) {
    fail_unsupported(path_ + ": the tuples of the graph hold more than " + std::to_string(kMaxItems) +
                     " items");
  }
}

ValueId Interpreter::literal(Literal l, std::string name) {
  size_t deepest = 0;
  spend_items(literal_items(l, 0, deepest));
  if (deepest > kMaxTupleDepth) fail_unsupported(path_ + ": tuple '" + name + "' nests more than 32 deep");
  Value v;
  v.kind = Value::Kind::Literal;
  v.name = std::move(name);
  v.literal = std::move(l);
  return add(std::move(v));
}

ValueId Interpreter::make_tuple(std::vector<ValueId> elements, std::string name) {
  const bool literals = std::all_of(elements.begin(), elements.end(),
                                    [&](ValueId e) { return graph_.value(e).kind == Value::Kind::Literal; });
  if (literals) {
    LiteralTuple items;
    for (const ValueId e : elements) {
      size_t deepest = 0;
      spend_items(literal_items(graph_.value(e).literal, 0, deepest));  // before it is copied
      items.push_back(graph_.value(e).literal);
    }
    return literal({std::move(items)}, std::move(name));
  }
  spend_items(elements.size());
  TupleExtent extent{1, 0};
  for (const ValueId e : elements) {
    const auto it = tuples_.find(e);
    extent.depth = std::max(extent.depth, it == tuples_.end() ? 0 : it->second.depth + 1);
    extent.leaves += it == tuples_.end() ? 1 : it->second.leaves;
  }
  if (extent.depth > kMaxTupleDepth || extent.leaves > kMaxTupleLeaves) {
    fail_unsupported(path_ + ": tuple '" + name + "' nests more than 32 deep or holds more than " +
                     std::to_string(kMaxTupleLeaves) + " values");
  }
  Value v;
  v.kind = Value::Kind::Tuple;
  v.name = std::move(name);
  v.elements = std::move(elements);
  const ValueId id = add(std::move(v));
  tuples_.emplace(id, extent);
  return id;
}

ValueId Interpreter::constant(const NodeMessage& n) {
  if (const auto it = constants_.find(&n); it != constants_.end()) return it->second;
  const auto* a = find_attribute(n.attributes, "value");
  if (!a) fail_format(node_text(n) + ": a constant without a value");
  const ValueId id = constant_value(*a, n, 0);
  constants_.emplace(&n, id);
  return id;
}

ValueId Interpreter::constant_tensor(Tensor t, std::string name) {
  Value v;
  v.kind = Value::Kind::Constant;
  v.name = std::move(name);
  v.type = t.type();
  v.tensor = std::move(t);
  return add(std::move(v));
}

ValueId Interpreter::constant_value(const AttributeMessage& a, const NodeMessage& n, int level) {
  using mindir::AttributeType;
  const auto type = static_cast<AttributeType>(a.type);
  if (type == AttributeType::Tensors || type == AttributeType::Tensor) {
    if (a.tensors.size() != 1) fail_format(node_text(n) + ": a tensor constant must hold one tensor");
    const auto& message = a.tensors[0];
    const DType dtype = dtype_of(message.data_type, node_text(n));
    // Compare before allocating: the shape alone may ask for anything.
    const size_t size = nbytes(dtype, message.dims);
    if (message.raw_data.size() != size) {
      fail_format(node_text(n) + ": " + dtype_name(dtype) + dims_text(message.dims) + " needs " +
                  std::to_string(size) + " bytes, the constant holds " +
                  std::to_string(message.raw_data.size()));
    }
    Tensor t = allocate(dtype, message.dims);
    if (size) std::memcpy(t.data, message.raw_data.data(), size);
    return constant_tensor(std::move(t), std::string(n.name));
  }
  if (type == AttributeType::Tuple || type == AttributeType::List) {
    std::vector<ValueId> elements;
    for (const auto& item : a.values) {
      spend_items(1);
      elements.push_back(constant_value(item, n, level + 1));
    }
    return make_tuple(std::move(elements), std::string(n.name));
  }
  return literal(scalar(a, n, level > 0), std::string(n.name));
}

// Elements of a tuple keep their number in the repeated field, top-level constants in the single one.
Literal Interpreter::scalar(const AttributeMessage& a, const NodeMessage& n, bool in_tuple) const {
  using mindir::AttributeType;
  const auto integer = [&] { return in_tuple && !a.ints.empty() ? a.ints[0] : a.i; };
  switch (static_cast<AttributeType>(a.type)) {
    case AttributeType::Int8:
    case AttributeType::Int16:
    case AttributeType::Int32:
    case AttributeType::Int64:
    case AttributeType::UInt8:
    case AttributeType::UInt16:
    case AttributeType::UInt32:
    case AttributeType::UInt64:
      return {integer()};
    case AttributeType::Bool:
      return {integer() != 0};
    case AttributeType::Float:
      return {static_cast<double>(in_tuple && !a.floats.empty() ? a.floats[0] : a.f)};
    case AttributeType::Double:
      return {in_tuple && !a.doubles.empty() ? a.doubles[0] : a.d};
    case AttributeType::String:
      return {std::string(in_tuple && !a.strings.empty() ? a.strings[0] : a.s)};
    case AttributeType::None:
    case AttributeType::UMonad:
    case AttributeType::IOMonad:
      return {};
    default:
      fail_unsupported(node_text(n) + ": constants of type " + std::to_string(a.type) + " are not supported");
  }
}

void Interpreter::flatten_output(ValueId id, const std::string& name) {
  const Value& v = graph_.value(id);
  if (v.kind == Value::Kind::Tuple) {
    const std::vector<ValueId> elements = v.elements;
    for (const ValueId e : elements) flatten_output(e, graph_.value(e).name);
    return;
  }
  if (v.kind == Value::Kind::Literal) {
    fail_unsupported(path_ + ": the graph returns '" + name + "', which is not a tensor");
  }
  graph_.outputs.push_back(id);
  graph_.output_names.push_back(name);
}

}  // namespace mllm
