#include "graph/importer.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "graph/file_types.h"
#include "graph/interpreter.h"
#include "graph/structure.h"
#include "mindir/model.h"

namespace mllm {

struct ModelFile::State {
  std::string path;
  std::shared_ptr<const MappedFile> mapped;
  mindir::Model model;
  FileTables tables;
  std::vector<InputSpec> inputs;
  std::vector<InputSpec> outputs;
  std::vector<TensorInfo> parameters;
  std::map<std::string, int64_t> operator_counts;
  std::unordered_map<std::string_view, std::shared_ptr<const MappedFile>> weight_files;

  // Look-up tables and checks that do not depend on input shapes.
  void index_names();
  void index_inputs();
  void index_parameters();
  void index_outputs();
  void count_operators();

  std::vector<std::string> result_names(std::string_view output, size_t count) const;
  Tensor parameter(const mindir::TensorMessage& message) const;
};

void ModelFile::State::index_names() {
  for (const auto& p : model.primitives) {
    if (!tables.primitives.emplace(p.name, &p).second)
      fail_format(path + ": two primitives are named " + std::string(p.name));
  }
  for (const auto& f : model.functions) {
    if (!tables.functions.emplace(f.name, &f).second)
      fail_format(path + ": two functions are named " + std::string(f.name));
  }
}

void ModelFile::State::index_inputs() {
  for (const auto& input : model.graph.inputs) {
    const std::string where = path + ": input " + std::string(input.name);
    if (input.tensors.size() != 1) fail_unsupported(where + " is not a tensor");
    InputSpec spec{std::string(input.name),
                   {dtype_of(input.tensors[0].data_type, where), input.tensors[0].dims}};
    if (spec.type.dims != kUnknownRank) {
      Dims known = spec.type.dims;
      for (int64_t& d : known) {
        if (d < kUnknownDim) fail_format(where + ": bad shape " + dims_text(spec.type.dims));
        if (d == kUnknownDim) d = 1;
      }
      numel(known);  // refuses shapes that overflow
    }
    inputs.push_back(std::move(spec));
  }
}

void ModelFile::State::index_parameters() {
  for (const auto& p : model.graph.parameters) {
    const std::string where = path + ": parameter " + std::string(p.name);
    parameters.push_back({std::string(p.name), {dtype_of(p.data_type, where), p.dims}});
    nbytes(parameters.back().type.dtype, p.dims);  // refuses bad shapes
    if (!p.has_external_data || weight_files.contains(p.location)) continue;
    const std::string location(p.location);
    if (!is_confined_path(location))
      fail_format(where + ": weight file '" + location + "' is outside the graph's folder");
    weight_files.emplace(p.location, MappedFile::open(parent_folder(path) + "/" + location));
  }
}

// ---- outputs

namespace {

// The tensors of an output's type, tuples flattened.
void collect_types(const mindir::AttributeMessage& a, const std::string& where,
                   std::vector<TensorType>& types) {
  if (a.tensors.size() == 1) {
    types.push_back({dtype_of(a.tensors[0].data_type, where), a.tensors[0].dims});
    return;
  }
  for (const auto& item : a.values) collect_types(item, where, types);
}

// Outputs are found by name, so no two may share one.
void make_unique(std::vector<std::string>& names) {
  std::unordered_set<std::string> taken(names.begin(), names.end());
  std::unordered_map<std::string, size_t> copies;
  std::unordered_set<std::string> seen;
  for (std::string& name : names) {
    if (seen.insert(name).second) continue;
    const std::string base = name;
    do {
      name = base + "." + std::to_string(++copies[base]);
    } while (!taken.insert(name).second);
    seen.insert(name);
  }
}

}  // namespace

// What a user calls the results: the names of the nodes that a returned tuple joins, else the output's own.
std::vector<std::string> ModelFile::State::result_names(std::string_view output, size_t count) const {
  std::unordered_map<std::string_view, const mindir::NodeMessage*> nodes;
  for (const auto& n : model.graph.nodes) nodes.emplace(n.name, &n);
  const auto op_of = [&](const mindir::NodeMessage& n) {
    const auto it = tables.primitives.find(referenced_name(n.op_type));
    return it == tables.primitives.end() ? std::string_view() : it->second->op_type;
  };
  std::string_view name = output;
  for (size_t hops = 0; hops <= model.graph.nodes.size(); ++hops) {
    const auto it = nodes.find(name);
    if (it == nodes.end()) break;
    const mindir::NodeMessage& n = *it->second;
    if (op_of(n) == "Depend" && !n.inputs.empty()) {
      name = n.inputs[0];
      continue;
    }
    if (op_of(n) == "MakeTuple" && n.inputs.size() == count) return {n.inputs.begin(), n.inputs.end()};
    break;
  }
  return std::vector<std::string>(count, std::string(name));
}

void ModelFile::State::index_outputs() {
  if (model.graph.outputs.size() != 1) fail_format(path + ": the graph must have one output entry");
  const mindir::ValueInfoMessage& output = model.graph.outputs[0];
  const std::string where = path + ": output " + std::string(output.name);
  std::vector<TensorType> types;
  for (const auto& t : output.tensors) types.push_back({dtype_of(t.data_type, where), t.dims});
  std::vector<size_t> tensors_of_item(types.size(), 1);
  for (const auto& a : output.attr_info) {
    for (const auto& item : a.values) {
      const size_t before = types.size();
      collect_types(item, where, types);
      tensors_of_item.push_back(types.size() - before);
    }
  }
  std::vector<std::string> names;
  if (const auto it = model.user_info.find("output_names"); it != model.user_info.end()) {
    std::string_view list = it->second;
    while (!list.empty()) {
      const size_t comma = list.find(',');
      names.emplace_back(list.substr(0, comma));
      list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
    }
    if (names.size() != types.size()) {
      fail_format(path + ": user_info.output_names lists " + std::to_string(names.size()) + " names for " +
                  std::to_string(types.size()) + " outputs");
    }
  } else {
    const std::vector<std::string> items = result_names(output.name, tensors_of_item.size());
    for (size_t i = 0; i < items.size(); ++i) names.insert(names.end(), tensors_of_item[i], items[i]);
  }
  make_unique(names);
  for (size_t i = 0; i < types.size(); ++i) outputs.push_back({std::move(names[i]), std::move(types[i])});
}

void ModelFile::State::count_operators() {
  const auto count = [&](const mindir::GraphMessage& g) {
    for (const auto& n : g.nodes) {
      const auto it = tables.primitives.find(referenced_name(n.op_type));
      if (it != tables.primitives.end() && !is_structural(it->second->op_type))
        ++operator_counts[std::string(it->second->op_type)];
    }
  };
  count(model.graph);
  for (const auto& f : model.functions) count(f);
}

// ---- parameters

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

// ---- the public face

namespace {

bool accepts(const TensorType& spec, const TensorType& given) {
  if (spec.dtype != given.dtype) return false;
  if (spec.dims == kUnknownRank) return true;
  if (spec.dims.size() != given.dims.size()) return false;
  for (size_t i = 0; i < given.dims.size(); ++i) {
    if (spec.dims[i] != kUnknownDim && spec.dims[i] != given.dims[i]) return false;
  }
  return true;
}

std::string type_text(const TensorType& type) {
  return dtype_name(type.dtype) + (type.dims == kUnknownRank ? "[...]" : dims_text(type.dims));
}

}  // namespace

ModelFile::ModelFile(std::unique_ptr<State> state) : state_(std::move(state)) {}
ModelFile::~ModelFile() = default;

std::shared_ptr<const ModelFile> ModelFile::open(const std::string& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  state->mapped = MappedFile::open(path);
  state->model = mindir::parse(state->mapped->bytes(), path);
  state->index_names();
  state->index_inputs();
  state->index_parameters();
  state->index_outputs();
  state->count_operators();
  return std::shared_ptr<const ModelFile>(new ModelFile(std::move(state)));
}

const std::string& ModelFile::path() const {
  return state_->path;
}
const std::vector<InputSpec>& ModelFile::inputs() const {
  return state_->inputs;
}
const std::vector<InputSpec>& ModelFile::outputs() const {
  return state_->outputs;
}
const std::vector<TensorInfo>& ModelFile::parameters() const {
  return state_->parameters;
}
const std::map<std::string, int64_t>& ModelFile::operator_counts() const {
  return state_->operator_counts;
}

std::vector<std::string> ModelFile::output_names() const {
  std::vector<std::string> names;
  for (const InputSpec& output : state_->outputs) names.push_back(output.name);
  return names;
}

Graph ModelFile::import(const std::vector<TensorType>& input_types, ThreadPool& pool) const {
  const State& s = *state_;
  if (input_types.size() != s.inputs.size()) {
    fail_argument(s.path + ": the graph has " + std::to_string(s.inputs.size()) + " inputs, " +
                  std::to_string(input_types.size()) + " were given");
  }
  Interpreter interpreter(s.path, s.tables, pool);
  for (const auto& message : s.model.graph.parameters)
    interpreter.add_parameter(message.name, s.parameter(message));
  for (size_t i = 0; i < s.inputs.size(); ++i) {
    if (!accepts(s.inputs[i].type, input_types[i])) {
      fail_argument(s.path + ": input " + s.inputs[i].name + " must be " + type_text(s.inputs[i].type) +
                    ", got " + type_text(input_types[i]));
    }
    interpreter.add_input(s.model.graph.inputs[i].name, input_types[i]);
  }
  Graph graph = interpreter.run(s.model.graph);
  if (graph.outputs.size() != s.outputs.size()) {
    fail_format(s.path + ": the file declares " + std::to_string(s.outputs.size()) +
                " outputs, the graph returns " + std::to_string(graph.outputs.size()));
  }
  for (size_t i = 0; i < s.outputs.size(); ++i) {
    const TensorType& type = graph.value(graph.outputs[i]).type;
    if (!accepts(s.outputs[i].type, type)) {
      fail_format(s.path + ": the file declares output " + s.outputs[i].name + " as " +
                  type_text(s.outputs[i].type) + ", the graph returns " + type_text(type));
    }
  }
  graph.output_names = output_names();
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
