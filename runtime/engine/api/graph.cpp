// The C interface of single graphs.
#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "api/errors.h"
#include "base/json.h"
#include "base/tensor.h"
#include "base/thread_pool.h"
#include "graph/fuse.h"
#include "graph/importer.h"
#include "graph/plan.h"

static_assert(static_cast<int>(mllm::DType::Bool) == MLLM_DTYPE_BOOL &&
              static_cast<int>(mllm::DType::Int32) == MLLM_DTYPE_INT32 &&
              static_cast<int>(mllm::DType::Float16) == MLLM_DTYPE_FLOAT16 &&
              static_cast<int>(mllm::DType::Float32) == MLLM_DTYPE_FLOAT32 &&
              static_cast<int>(mllm::DType::QInt4x2) == MLLM_DTYPE_QINT4X2 &&
              static_cast<int>(mllm::DType::UInt64) == MLLM_DTYPE_UINT64);

namespace {

// A plan for one set of input shapes.
struct Specialization {
  std::vector<mllm::TensorType> types;
  std::unique_ptr<mllm::Plan> plan;
  // Inputs that the graph overwrites get memory of our own, so that the caller's stays as it is.
  std::map<size_t, mllm::Tensor> private_inputs;
};

std::string tensor_json(const std::string& name, const mllm::TensorType& type, bool with_bytes) {
  std::string out = "{\"name\": " + mllm::json_quoted(name) + ", \"dtype\": \"" +
                    mllm::dtype_name(type.dtype) + "\", \"dims\": " + mllm::dims_text(type.dims);
  if (with_bytes) out += ", \"nbytes\": " + std::to_string(mllm::nbytes(type.dtype, type.dims));
  return out + "}";
}

template <class Items, class F>
std::string joined(const Items& items, F&& text) {
  std::string out;
  for (const auto& item : items) out += (out.empty() ? "" : ", ") + text(item);
  return out;
}

std::string counts_json(const std::map<std::string, int64_t>& counts) {
  return "{" +
         joined(counts,
                [](const auto& c) { return mllm::json_quoted(c.first) + ": " + std::to_string(c.second); }) +
         "}";
}

bool all_known(const std::vector<mllm::InputSpec>& inputs) {
  return std::all_of(inputs.begin(), inputs.end(), [](const mllm::InputSpec& s) {
    return std::all_of(s.type.dims.begin(), s.type.dims.end(), [](int64_t d) { return d >= 0; });
  });
}

}  // namespace

struct mllm_graph {
  mllm_graph(const char* path, int threads) : file(mllm::ModelFile::open(path)), pool(threads) {
    if (all_known(file->inputs())) {
      std::vector<mllm::TensorType> types;
      for (const auto& spec : file->inputs()) types.push_back(spec.type);
      specialize(types);
    }
  }

  void specialize(const std::vector<mllm::TensorType>& types) {
    if (current && current->types == types) return;
    current.reset();
    Specialization s;
    s.types = types;
    s.plan = std::make_unique<mllm::Plan>(file->import(types, pool), pool);
    const mllm::Graph& graph = s.plan->graph();
    for (size_t i = 0; i < graph.inputs.size(); ++i) {
      if (s.plan->overwrites_input(i))
        s.private_inputs.emplace(i, mllm::allocate(types[i].dtype, types[i].dims));
    }
    current = std::move(s);
  }

  std::shared_ptr<const mllm::ModelFile> file;
  mllm::ThreadPool pool;
  std::optional<Specialization> current;
  std::vector<mllm::Tensor> outputs;  // of the last run
  std::string description;
};

namespace {

void describe_tensor(const std::string& name, const mllm::TensorType& type, mllm_tensor* info) {
  info->name = name.c_str();
  info->dtype = static_cast<mllm_dtype>(type.dtype);
  info->rank = static_cast<int32_t>(type.dims.size());
  info->dims = type.dims.data();
  info->data = nullptr;
  info->nbytes = 0;
}

mllm::Tensor checked_input(const mllm_graph& graph, size_t index, const mllm_tensor& given) {
  const mllm::InputSpec& spec = graph.file->inputs()[index];
  const std::string where = graph.file->path() + ": input " + spec.name;
  if (given.rank < 0 || given.rank > 16)
    mllm::fail_argument(where + ": rank must be 0 to 16, got " + std::to_string(given.rank));
  if (given.rank > 0 && !given.dims) mllm::fail_argument(where + ": dims must not be NULL");
  // A caller in C may pass any number, which a C++ enum must not hold.
  static_assert(sizeof(mllm_dtype) == sizeof(uint32_t));
  uint32_t dtype = 0;
  std::memcpy(&dtype, &given.dtype, sizeof dtype);
  if (dtype > MLLM_DTYPE_UINT64) mllm::fail_argument(where + ": unknown dtype " + std::to_string(dtype));
  mllm::Tensor t;
  t.dtype = static_cast<mllm::DType>(dtype);
  if (given.rank > 0) t.dims.assign(given.dims, given.dims + given.rank);
  for (const int64_t d : t.dims) {
    if (d < 0) mllm::fail_argument(where + ": bad shape " + mllm::dims_text(t.dims));
  }
  if (given.nbytes != t.bytes()) {
    mllm::fail_argument(where + ": " + mllm::dims_text(t.dims) + " needs " + std::to_string(t.bytes()) +
                        " bytes, got " + std::to_string(given.nbytes));
  }
  if (!given.data && t.bytes() != 0) mllm::fail_argument(where + ": data must not be NULL");
  t.data = given.data;
  return t;
}

// An output that is the memory of an input (a graph that returns what it was given) gets memory of its own:
// outputs belong to the graph.
void keep(mllm::Tensor& output, const std::vector<mllm::Tensor>& bound) {
  const auto* data = output.as<const uint8_t>();
  const bool borrowed = std::any_of(bound.begin(), bound.end(), [&](const mllm::Tensor& t) {
    return !std::less<>()(data, t.as<const uint8_t>()) &&
           std::less<>()(data, t.as<const uint8_t>() + t.bytes());
  });
  if (!borrowed) return;
  mllm::Tensor own = mllm::allocate(output.dtype, output.dims);
  std::memcpy(own.data, output.data, own.bytes());
  output = std::move(own);
}

void run(mllm_graph& graph, const mllm_tensor* inputs, size_t n_inputs, mllm_tensor* outputs,
         size_t n_outputs) {
  const size_t expected = graph.file->inputs().size();
  if (n_inputs != expected) {
    mllm::fail_argument(graph.file->path() + ": the graph has " + std::to_string(expected) + " inputs, got " +
                        std::to_string(n_inputs));
  }
  if (n_outputs != graph.file->outputs().size()) {
    mllm::fail_argument(graph.file->path() + ": the graph has " +
                        std::to_string(graph.file->outputs().size()) + " outputs, got room for " +
                        std::to_string(n_outputs));
  }
  std::vector<mllm::Tensor> bound;
  std::vector<mllm::TensorType> types;
  for (size_t i = 0; i < n_inputs; ++i) {
    bound.push_back(checked_input(graph, i, inputs[i]));
    types.push_back(bound.back().type());
  }
  graph.specialize(types);
  for (auto& [index, own] : graph.current->private_inputs) {
    if (own.bytes()) std::memcpy(own.data, bound[index].data, own.bytes());
    bound[index].data = own.data;
  }
  graph.outputs = graph.current->plan->run(bound);
  for (mllm::Tensor& t : graph.outputs) keep(t, bound);
  for (size_t i = 0; i < n_outputs; ++i) {
    const mllm::Tensor& t = graph.outputs[i];
    outputs[i] = {graph.file->outputs()[i].name.c_str(),
                  static_cast<mllm_dtype>(t.dtype),
                  static_cast<int32_t>(t.dims.size()),
                  t.dims.data(),
                  t.data,
                  t.bytes()};
  }
}

void describe(mllm_graph& graph) {
  const mllm::ModelFile& file = *graph.file;
  std::map<std::string, int64_t> plan;
  bool fused = false;
  size_t arena_bytes = 0;
  std::vector<mllm::TensorInfo> outputs = file.outputs();
  if (graph.current) {
    const mllm::Graph& g = graph.current->plan->graph();
    for (size_t i = 0; i < outputs.size(); ++i) outputs[i].type = g.value(g.outputs[i]).type;
    mllm::Graph copy = g;
    fused = mllm::fuse(copy);
    for (const auto& node : copy.nodes) ++plan[node.op];
    arena_bytes = graph.current->plan->arena_bytes();
  }
  const auto tensors = [](const std::vector<mllm::TensorInfo>& list, bool with_bytes) {
    return joined(list, [&](const auto& t) { return tensor_json(t.name, t.type, with_bytes); });
  };
  std::string out = "{\"inputs\": [";
  out += tensors(file.inputs(), false);
  out += "], \"outputs\": [";
  out += tensors(outputs, false);
  out += "], \"operators\": ";
  out += counts_json(file.operator_counts());
  out += ", \"parameters\": [";
  out += tensors(file.parameters(), true);
  out += "], \"fused\": ";
  out += fused ? "true" : "false";
  out += ", \"plan\": ";
  out += counts_json(plan);
  out += ", \"arena_bytes\": ";
  out += std::to_string(arena_bytes);
  out += '}';
  graph.description = std::move(out);
}

}  // namespace

extern "C" {

mllm_status mllm_graph_open(const char* path, int32_t threads, mllm_graph** graph) {
  return mllm::api::guard([&] {
    mllm::api::require(path, "path");
    mllm::api::require(graph, "graph");
    *graph = nullptr;
    *graph = new mllm_graph(path, threads);
  });
}

void mllm_graph_close(mllm_graph* graph) {
  delete graph;
}

size_t mllm_graph_input_count(const mllm_graph* graph) {
  return graph ? graph->file->inputs().size() : 0;
}

size_t mllm_graph_output_count(const mllm_graph* graph) {
  return graph ? graph->file->outputs().size() : 0;
}

mllm_status mllm_graph_input(const mllm_graph* graph, size_t index, mllm_tensor* info) {
  return mllm::api::guard([&] {
    mllm::api::require(graph, "graph");
    mllm::api::require(info, "info");
    if (index >= graph->file->inputs().size())
      mllm::fail_argument("input " + std::to_string(index) + " does not exist");
    const mllm::InputSpec& spec = graph->file->inputs()[index];
    describe_tensor(spec.name, spec.type, info);
  });
}

mllm_status mllm_graph_output(const mllm_graph* graph, size_t index, mllm_tensor* info) {
  return mllm::api::guard([&] {
    mllm::api::require(graph, "graph");
    mllm::api::require(info, "info");
    if (index >= graph->file->outputs().size())
      mllm::fail_argument("output " + std::to_string(index) + " does not exist");
    const mllm::TensorType* type = &graph->file->outputs()[index].type;
    if (graph->current) {
      const mllm::Graph& g = graph->current->plan->graph();
      type = &g.value(g.outputs[index]).type;
    }
    describe_tensor(graph->file->outputs()[index].name, *type, info);
  });
}

mllm_status mllm_graph_run(mllm_graph* graph, const mllm_tensor* inputs, size_t n_inputs,
                           mllm_tensor* outputs, size_t n_outputs) {
  return mllm::api::guard([&] {
    mllm::api::require(graph, "graph");
    if (n_inputs) mllm::api::require(inputs, "inputs");
    if (n_outputs) mllm::api::require(outputs, "outputs");
    run(*graph, inputs, n_inputs, outputs, n_outputs);
  });
}

mllm_status mllm_graph_describe(mllm_graph* graph, const char** json) {
  return mllm::api::guard([&] {
    mllm::api::require(graph, "graph");
    mllm::api::require(json, "json");
    describe(*graph);
    *json = graph->description.c_str();
  });
}
}
