#include "graph/importer.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "graph/operator.h"
#include "graph/structure.h"
#include "mindir/model.h"

namespace mllm {
namespace {

// Bounds on what a file may ask for, far above any real network, so that a hostile one cannot spin or eat
// memory.
constexpr int kMaxCallDepth = 64;
constexpr size_t kMaxNodes = 4'000'000;
constexpr size_t kMaxFoldBytes = size_t{64} << 20;
constexpr size_t kMaxLiteralItems = 1 << 20;

constexpr int64_t kUnknownDim = -1;

DType dtype_of(int32_t element_type, const std::string& where) {
  using mindir::ElementType;
  switch (static_cast<ElementType>(element_type)) {
    case ElementType::Float:
      return DType::Float32;
    case ElementType::UInt8:
      return DType::UInt8;
    case ElementType::Int8:
      return DType::Int8;
    case ElementType::UInt16:
      return DType::UInt16;
    case ElementType::Int16:
      return DType::Int16;
    case ElementType::Int32:
      return DType::Int32;
    case ElementType::Int64:
      return DType::Int64;
    case ElementType::Bool:
      return DType::Bool;
    case ElementType::Float16:
      return DType::Float16;
    case ElementType::Double:
    case ElementType::Float64:
      return DType::Float64;
    case ElementType::UInt32:
      return DType::UInt32;
    case ElementType::UInt64:
      return DType::UInt64;
    case ElementType::BFloat16:
      return DType::BFloat16;
    case ElementType::QInt4x2:
      return DType::QInt4x2;
    default:
      fail_unsupported(where + ": element type " + std::to_string(element_type) + " is not supported");
  }
}

const mindir::AttributeMessage* find_attribute(const std::vector<mindir::AttributeMessage>& list,
                                               std::string_view name) {
  for (const auto& a : list) {
    if (a.name == name) return &a;
  }
  return nullptr;
}

}  // namespace

struct ModelFile::State {
  std::string path;
  std::shared_ptr<const MappedFile> mapped;
  mindir::Model model;
  std::vector<InputSpec> inputs;
  std::vector<std::string> declared_outputs;  // from user_info; empty when the file does not say
  std::unordered_map<std::string_view, const mindir::PrimitiveMessage*> primitives;
  std::unordered_map<std::string_view, const mindir::GraphMessage*> functions;
  std::unordered_map<std::string_view, std::shared_ptr<const MappedFile>> weight_files;

  void index();
  Tensor parameter(const mindir::TensorMessage& message) const;
};

// Look-up tables and checks that do not depend on input shapes.
void ModelFile::State::index() {
  for (const auto& p : model.primitives) primitives.emplace(p.name, &p);
  for (const auto& f : model.functions) {
    if (!functions.emplace(f.name, &f).second)
      fail_format(path + ": two functions are named " + std::string(f.name));
  }
  for (const auto& input : model.graph.inputs) {
    const std::string where = path + ": input " + std::string(input.name);
    if (input.tensors.size() != 1) fail_unsupported(where + " is not a tensor");
    InputSpec spec{std::string(input.name),
                   {dtype_of(input.tensors[0].data_type, where), input.tensors[0].dims}};
    const bool unknown_rank = spec.type.dims == Dims{-2};
    for (const int64_t d : spec.type.dims) {
      if (d < kUnknownDim && !unknown_rank) fail_format(where + ": bad shape " + dims_text(spec.type.dims));
    }
    if (!unknown_rank) {
      Dims known = spec.type.dims;
      std::replace(known.begin(), known.end(), kUnknownDim, int64_t{1});
      numel(known);  // refuses shapes that overflow
    }
    inputs.push_back(std::move(spec));
  }
  for (const auto& p : model.graph.parameters) {
    if (!p.has_external_data || weight_files.contains(p.location)) continue;
    const std::string location(p.location);
    if (!is_confined_path(location)) {
      fail_format(path + ": parameter " + std::string(p.name) + ": weight file '" + location +
                  "' is outside the graph's folder");
    }
    weight_files.emplace(p.location, MappedFile::open(parent_folder(path) + "/" + location));
  }
  if (const auto it = model.user_info.find("output_names"); it != model.user_info.end()) {
    std::string_view names = it->second;
    while (!names.empty()) {
      const size_t comma = names.find(',');
      declared_outputs.emplace_back(names.substr(0, comma));
      names = comma == std::string_view::npos ? std::string_view() : names.substr(comma + 1);
    }
  }
}

Tensor ModelFile::State::parameter(const mindir::TensorMessage& message) const {
  const std::string where = path + ": parameter " + std::string(message.name);
  Tensor t;
  t.dtype = dtype_of(message.data_type, where);
  t.dims = message.dims;
  const size_t size = t.bytes();
  std::span<const uint8_t> bytes = message.raw_data;
  std::shared_ptr<const MappedFile> file = mapped;
  if (message.has_external_data) {
    file = weight_files.at(message.location);
    const size_t available = file->bytes().size();
    if (message.offset < 0 || message.length < 0 || static_cast<uint64_t>(message.offset) > available ||
        static_cast<uint64_t>(message.length) > available - static_cast<uint64_t>(message.offset)) {
      fail_format(where + ": bytes " + std::to_string(message.offset) + " + " +
                  std::to_string(message.length) + " lie outside " + file->path() + " (" +
                  std::to_string(available) + " bytes)");
    }
    bytes = file->bytes().subspan(static_cast<size_t>(message.offset), static_cast<size_t>(message.length));
  }
  if (bytes.size() != size) {
    fail_format(where + ": " + dtype_name(t.dtype) + dims_text(t.dims) + " needs " + std::to_string(size) +
                " bytes, the file holds " + std::to_string(bytes.size()));
  }
  if (size != 0 && reinterpret_cast<uintptr_t>(bytes.data()) % dtype_size(t.dtype) != 0) {
    // raw_data inside a protobuf has no alignment; copy it once. External weights of a bundle are 64-byte
    // aligned.
    t = allocate(t.dtype, t.dims);
    std::memcpy(t.data, bytes.data(), size);
    return t;
  }
  t.data = const_cast<uint8_t*>(bytes.data());
  t.owner =
      std::shared_ptr<void>(std::const_pointer_cast<MappedFile>(file), const_cast<uint8_t*>(bytes.data()));
  return t;
}

namespace {

// One import: an abstract interpreter that walks the nodes in list order.
class Importer {
 public:
  Importer(const std::string& path, const mindir::Model& model, ThreadPool& pool)
      : path_(path), model_(model), pool_(pool) {
    graph_.file = path;
  }

  using Frame = std::unordered_map<std::string_view, ValueId>;

  ValueId add(Value v) {
    tensors_.push_back(v.kind == Value::Kind::Constant || v.kind == Value::Kind::Parameter ? v.tensor
                                                                                           : Tensor{});
    return graph_.add_value(std::move(v));
  }

  void define(Frame& frame, std::string_view name, ValueId id) {
    if (!frame.emplace(name, id).second)
      fail_format(path_ + ": two nodes or parameters are named '" + std::string(name) + "'");
  }

  ValueId find(const Frame& frame, std::string_view name, const mindir::NodeMessage& user) const {
    if (const auto it = frame.find(name); it != frame.end()) return it->second;
    if (const auto it = parameters_.find(name); it != parameters_.end()) return it->second;
    if (functions_->contains(name)) {
      fail_unsupported(node_text(user) + ": control flow (closures over graph '" + std::string(name) +
                       "') is not supported");
    }
    fail_format(node_text(user) + ": uses '" + std::string(name) +
                "', which nothing before it defines: the graph is cyclic, out of order or incomplete");
  }

  std::string node_text(const mindir::NodeMessage& n) const {
    return path_ + ": node " + std::string(n.name) + " (" + std::string(n.op_type) + ")";
  }

  void run_graph(const mindir::GraphMessage& g, Frame& frame, int depth) {
    if (depth > kMaxCallDepth)
      fail_unsupported(path_ + ": function '" + std::string(g.name) +
                       "' calls nest more than 64 deep (recursion?)");
    for (const auto& n : g.nodes) {
      if (++executed_ > kMaxNodes)
        fail_unsupported(path_ + ": the graph expands to more than 4 million nodes");
      define(frame, n.name, evaluate(n, frame, depth));
    }
  }

  ValueId evaluate(const mindir::NodeMessage& n, const Frame& frame, int depth) {
    if (n.op_type == "Constant") return constant(n);
    constexpr std::string_view kReference = "REF::";
    if (!n.op_type.starts_with(kReference)) fail_format(node_text(n) + ": unknown kind of node");
    const std::string_view target = n.op_type.substr(kReference.size());
    std::vector<ValueId> inputs;
    inputs.reserve(n.inputs.size());
    if (const auto it = primitives_->find(target); it != primitives_->end()) {
      for (const auto name : n.inputs) inputs.push_back(find(frame, name, n));
      return primitive(n, *it->second, std::move(inputs));
    }
    if (const auto it = functions_->find(target); it != functions_->end()) {
      for (const auto name : n.inputs) inputs.push_back(find(frame, name, n));
      return call(n, *it->second, inputs, depth);
    }
    fail_unsupported(node_text(n) + ": calls a closure; control flow is not supported");
  }

  ValueId call(const mindir::NodeMessage& n, const mindir::GraphMessage& f,
               const std::vector<ValueId>& arguments, int depth) {
    if (f.inputs.size() != arguments.size()) {
      fail_format(node_text(n) + ": passes " + std::to_string(arguments.size()) +
                  " arguments to a function of " + std::to_string(f.inputs.size()));
    }
    Frame frame;
    for (size_t i = 0; i < arguments.size(); ++i) define(frame, f.inputs[i].name, arguments[i]);
    run_graph(f, frame, depth + 1);
    if (f.outputs.size() != 1) fail_format(node_text(n) + ": the function has no single output");
    return find(frame, f.outputs[0].name, n);
  }

  ValueId literal(Literal l, std::string name = {}) {
    Value v;
    v.kind = Value::Kind::Literal;
    v.name = std::move(name);
    v.literal = std::move(l);
    return add(std::move(v));
  }

  ValueId constant_tensor(Tensor t, std::string name) {
    Value v;
    v.kind = Value::Kind::Constant;
    v.name = std::move(name);
    v.type = t.type();
    v.tensor = std::move(t);
    return add(std::move(v));
  }

  ValueId constant(const mindir::NodeMessage& n) {
    const auto* a = find_attribute(n.attributes, "value");
    if (!a) fail_format(node_text(n) + ": a constant without a value");
    return constant_value(*a, n, 0);
  }

  // Elements of a tuple keep their number in the repeated field, top-level constants in the single one.
  ValueId constant_value(const mindir::AttributeMessage& a, const mindir::NodeMessage& n, int level) {
    using mindir::AttributeType;
    const auto type = static_cast<AttributeType>(a.type);
    if (type == AttributeType::Tensors || type == AttributeType::Tensor) {
      if (a.tensors.size() != 1) fail_format(node_text(n) + ": a tensor constant must hold one tensor");
      const auto& message = a.tensors[0];
      Tensor t = allocate(dtype_of(message.data_type, node_text(n)), checked_dims(message, n));
      if (message.raw_data.size() != t.bytes()) {
        fail_format(node_text(n) + ": " + dtype_name(t.dtype) + dims_text(t.dims) + " needs " +
                    std::to_string(t.bytes()) + " bytes, the constant holds " +
                    std::to_string(message.raw_data.size()));
      }
      if (t.bytes()) std::memcpy(t.data, message.raw_data.data(), t.bytes());
      return constant_tensor(std::move(t), std::string(n.name));
    }
    if (type == AttributeType::Tuple || type == AttributeType::List) {
      std::vector<ValueId> elements;
      for (const auto& item : a.values) {
        if (++literal_items_ > kMaxLiteralItems)
          fail_format(path_ + ": tuple constants hold more than a million items");
        elements.push_back(constant_value(item, n, level + 1));
      }
      return make_tuple(std::move(elements), std::string(n.name));
    }
    return literal(scalar(a, n, level > 0), std::string(n.name));
  }

  Dims checked_dims(const mindir::TensorMessage& t, const mindir::NodeMessage& n) const {
    for (const int64_t d : t.dims) {
      if (d < 0) fail_format(node_text(n) + ": bad shape " + dims_text(t.dims));
    }
    if (nbytes(DType::Int8, t.dims) > t.raw_data.size()) {
      fail_format(node_text(n) + ": the constant's shape " + dims_text(t.dims) + " is larger than its data");
    }
    return t.dims;
  }

  Literal scalar(const mindir::AttributeMessage& a, const mindir::NodeMessage& n, bool in_tuple) const {
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
        fail_unsupported(node_text(n) + ": constants of type " + std::to_string(a.type) +
                         " are not supported");
    }
  }

  ValueId make_tuple(std::vector<ValueId> elements, std::string name) {
    const bool literals = std::all_of(elements.begin(), elements.end(), [&](ValueId e) {
      return graph_.value(e).kind == Value::Kind::Literal;
    });
    if (literals) {
      LiteralTuple items;
      for (const ValueId e : elements) items.push_back(graph_.value(e).literal);
      return literal({std::move(items)}, std::move(name));
    }
    Value v;
    v.kind = Value::Kind::Tuple;
    v.name = std::move(name);
    v.elements = std::move(elements);
    return add(std::move(v));
  }

  ValueId primitive(const mindir::NodeMessage& n, const mindir::PrimitiveMessage& p,
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

  ValueId compute(const mindir::NodeMessage& n, Node node, const Operator& definition) {
    const std::vector<TensorType> types = definition.infer(OpArgs(graph_, node));
    const bool declared_tuple = check_declared_types(n, node, types);
    const bool fold = definition.in_place_input < 0 && foldable(node, types);
    for (const TensorType& type : types) {
      nbytes(type.dtype, type.dims);  // refuses overflow
      Value v;
      v.name = node.name;
      v.type = type;
      v.producer = static_cast<int32_t>(graph_.nodes.size());
      if (definition.in_place_input >= 0 && node.outputs.empty()) {
        v.alias_of = node.inputs.at(static_cast<size_t>(definition.in_place_input));
      }
      node.outputs.push_back(add(std::move(v)));
    }
    const std::vector<ValueId> outputs = node.outputs;
    if (fold) {
      run_now(node, definition);
    } else {
      graph_.nodes.push_back(std::move(node));
    }
    if (outputs.size() == 1 && !declared_tuple) return outputs[0];
    return make_tuple(outputs, std::string(n.name));
  }

  // The exporter writes each node's result type; ours must agree, or one of us is wrong about the primitive.
  bool check_declared_types(const mindir::NodeMessage& n, const Node& node,
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
    if (declared.size() != types.size()) {
      fail_format(path_ + ": node " + node.name + " (" + node.op + "): the file declares " +
                  std::to_string(declared.size()) + " outputs, the primitive has " +
                  std::to_string(types.size()));
    }
    for (size_t i = 0; i < types.size(); ++i) {
      const auto& t = *declared[i];
      if (t.dims == Dims{-2}) continue;
      bool same =
          t.dims.size() == types[i].dims.size() && dtype_of(t.data_type, node_text(n)) == types[i].dtype;
      for (size_t k = 0; same && k < t.dims.size(); ++k)
        same = t.dims[k] == kUnknownDim || t.dims[k] == types[i].dims[k];
      if (!same) {
        fail_format(path_ + ": node " + node.name + " (" + node.op + "): the file declares output " +
                    std::to_string(i) + " as " + dtype_name(dtype_of(t.data_type, node_text(n))) +
                    dims_text(t.dims) + ", its operands give " + dtype_name(types[i].dtype) +
                    dims_text(types[i].dims));
      }
    }
    return tuple;
  }

  bool is_constant(ValueId id) const {
    const Value& v = graph_.value(id);
    if (v.kind == Value::Kind::Tuple) {
      return std::all_of(v.elements.begin(), v.elements.end(), [&](ValueId e) { return is_constant(e); });
    }
    return v.kind == Value::Kind::Constant || v.kind == Value::Kind::Literal;
  }

  bool foldable(const Node& node, const std::vector<TensorType>& types) const {
    size_t size = 0;
    for (const TensorType& t : types) size += nbytes(t.dtype, t.dims);
    return size <= kMaxFoldBytes &&
           std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId i) { return is_constant(i); });
  }

  void run_now(const Node& node, const Operator& definition) {
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
      scratch =
          allocate(DType::UInt8, {static_cast<int64_t>(definition.scratch_bytes(args, pool_.threads()))});
      context.scratch = scratch.data;
    }
    definition.run(args, context);
  }

  void flatten_output(ValueId id, const std::string& name) {
    const Value& v = graph_.value(id);
    if (v.kind == Value::Kind::Tuple) {
      const std::vector<ValueId> elements = v.elements;
      for (const ValueId e : elements) flatten_output(e, graph_.value(e).name);
      return;
    }
    if (v.kind == Value::Kind::Literal)
      fail_unsupported(path_ + ": the graph returns something that is not a tensor");
    graph_.outputs.push_back(id);
    graph_.output_names.push_back(name);
  }

  const std::string& path_;
  const mindir::Model& model_;
  ThreadPool& pool_;
  const std::unordered_map<std::string_view, const mindir::PrimitiveMessage*>* primitives_ = nullptr;
  const std::unordered_map<std::string_view, const mindir::GraphMessage*>* functions_ = nullptr;
  Frame parameters_;
  Graph graph_;
  std::vector<Tensor> tensors_;  // constants and parameters by ValueId, for folding
  size_t executed_ = 0;
  size_t literal_items_ = 0;
};

bool accepts(const TensorType& spec, const TensorType& given) {
  if (spec.dtype != given.dtype) return false;
  if (spec.dims == Dims{-2}) return true;
  if (spec.dims.size() != given.dims.size()) return false;
  for (size_t i = 0; i < given.dims.size(); ++i) {
    if (spec.dims[i] != kUnknownDim && spec.dims[i] != given.dims[i]) return false;
  }
  return true;
}

}  // namespace

ModelFile::ModelFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
ModelFile::~ModelFile() = default;

std::shared_ptr<const ModelFile> ModelFile::open(const std::string& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  state->mapped = MappedFile::open(path);
  state->model = mindir::parse(state->mapped->bytes(), path);
  state->index();
  return std::shared_ptr<const ModelFile>(new ModelFile(std::move(state)));
}

const std::string& ModelFile::path() const {
  return state_->path;
}
const std::vector<InputSpec>& ModelFile::inputs() const {
  return state_->inputs;
}

std::vector<std::string> ModelFile::output_names() const {
  if (!state_->declared_outputs.empty()) return state_->declared_outputs;
  const mindir::GraphMessage& g = state_->model.graph;
  if (g.outputs.size() != 1) return {};
  for (const auto& n : g.nodes) {
    if (n.name != g.outputs[0].name || n.op_type.find("MakeTuple") == std::string_view::npos) continue;
    return {n.inputs.begin(), n.inputs.end()};
  }
  return {std::string(g.outputs[0].name)};
}

Graph ModelFile::import(const std::vector<TensorType>& input_types, ThreadPool& pool) const {
  const State& s = *state_;
  if (input_types.size() != s.inputs.size()) {
    fail_argument(s.path + ": the graph has " + std::to_string(s.inputs.size()) + " inputs, " +
                  std::to_string(input_types.size()) + " were given");
  }
  Importer importer(s.path, s.model, pool);
  importer.primitives_ = &s.primitives;
  importer.functions_ = &s.functions;
  for (const auto& message : s.model.graph.parameters) {
    Value v;
    v.kind = Value::Kind::Parameter;
    v.name = std::string(message.name);
    v.tensor = s.parameter(message);
    v.type = v.tensor.type();
    importer.define(importer.parameters_, message.name, importer.add(std::move(v)));
  }
  Importer::Frame frame;
  for (size_t i = 0; i < s.inputs.size(); ++i) {
    if (!accepts(s.inputs[i].type, input_types[i])) {
      fail_argument(s.path + ": input " + s.inputs[i].name + " must be " +
                    dtype_name(s.inputs[i].type.dtype) + dims_text(s.inputs[i].type.dims) + ", got " +
                    dtype_name(input_types[i].dtype) + dims_text(input_types[i].dims));
    }
    Value v;
    v.kind = Value::Kind::Input;
    v.name = s.inputs[i].name;
    v.type = input_types[i];
    const ValueId id = importer.add(std::move(v));
    importer.graph_.inputs.push_back(id);
    importer.define(frame, s.model.graph.inputs[i].name, id);
  }
  importer.run_graph(s.model.graph, frame, 0);
  if (s.model.graph.outputs.size() != 1) fail_format(s.path + ": the graph must have one output entry");
  const std::string_view output = s.model.graph.outputs[0].name;
  mindir::NodeMessage reader;
  reader.name = output;
  reader.op_type = "output";
  importer.flatten_output(importer.find(frame, output, reader), std::string(output));
  Graph graph = std::move(importer.graph_);
  if (!s.declared_outputs.empty()) {
    if (s.declared_outputs.size() != graph.outputs.size()) {
      fail_format(s.path + ": user_info.output_names lists " + std::to_string(s.declared_outputs.size()) +
                  " names for " + std::to_string(graph.outputs.size()) + " outputs");
    }
    graph.output_names = s.declared_outputs;
  }
  return graph;
}

Graph ModelFile::import(ThreadPool& pool) const {
  std::vector<TensorType> types;
  for (const InputSpec& spec : state_->inputs) {
    for (const int64_t d : spec.type.dims) {
      if (d < 0)
        fail_argument(state_->path + ": input " + spec.name +
                      " has an unknown dimension; give the input shapes");
    }
    types.push_back(spec.type);
  }
  return import(types, pool);
}

}  // namespace mllm
