#include "session/model.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "graph/fuse.h"
#include "graph/importer.h"
#include "kernels/fused/pack_weights.h"

namespace mllm {
namespace {

void check_size(const std::string& path, const BundleFile& file) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) fail_io(path + ": cannot open: " + std::strerror(errno));
  if (!S_ISREG(info.st_mode)) fail_io(path + ": not a regular file");
  if (static_cast<uint64_t>(info.st_size) != file.size) {
    fail_format(path + ": has " + std::to_string(info.st_size) + " bytes, manifest.json says " +
                std::to_string(file.size) + "; copy or export the bundle again");
  }
}

void check_digest(const std::string& path, const BundleFile& file) {
  const auto mapped = MappedFile::open(path);
  if (sha256_hex(mapped->bytes()) != file.sha256) {
    fail_format(
        path +
        ": the sha256 differs from manifest.json; the file is damaged, copy or export the bundle again");
  }
}

[[noreturn]] void fail_signature(const Graph& graph, const std::string& what) {
  fail_format(graph.file + ": " + what + "; graph and manifest.json do not belong together");
}

void check_value(const Graph& graph, const char* side, const std::string& found_name, const std::string& name,
                 const TensorType& found, const TensorType& type) {
  if (found_name != name)
    fail_signature(graph, std::string(side) + " \"" + found_name + "\" should be \"" + name + "\"");
  if (found == type) return;
  fail_signature(graph, std::string(side) + " " + name + " is " + dtype_name(found.dtype) +
                            dims_text(found.dims) + ", expected " + dtype_name(type.dtype) +
                            dims_text(type.dims));
}

void check_signature(const Graph& graph, const Manifest& m, int32_t tokens) {
  if (graph.inputs.size() != m.inputs.size() || graph.outputs.size() != m.outputs.size() ||
      graph.output_names.size() != m.outputs.size()) {
    fail_signature(graph, std::to_string(graph.inputs.size()) + " inputs and " +
                              std::to_string(graph.outputs.size()) + " outputs, expected " +
                              std::to_string(m.inputs.size()) + " and " + std::to_string(m.outputs.size()));
  }
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    const TensorType type = i == 0  ? TensorType{DType::Int32, {m.batch_size, tokens}}
                            : i < 3 ? TensorType{DType::Int32, {m.batch_size}}
                                    : m.cache_type(i - 3);
    const Value& input = graph.value(graph.inputs[i]);
    check_value(graph, "input", input.name, m.inputs[i], input.type, type);
  }
  for (size_t i = 0; i < graph.outputs.size(); ++i) {
    const TensorType type =
        i == 0 ? TensorType{DType::Float32, {m.batch_size, m.vocab_size}} : m.cache_type(i - 1);
    check_value(graph, "output", graph.output_names[i], m.outputs[i], graph.value(graph.outputs[i]).type,
                type);
  }
}

// Whether output i+1 is the memory of input i+3, for all caches.
bool writes_in_place(const Graph& graph) {
  for (size_t i = 1; i < graph.outputs.size(); ++i) {
    ValueId v = graph.outputs[i];
    while (v != kNoValue && v != graph.inputs[i + 2]) v = graph.value(v).alias_of;
    if (v == kNoValue) return false;
  }
  return true;
}

// Whether any node writes into a cache it is given.
bool writes_any_input(const Graph& graph) {
  for (const Value& value : graph.values) {
    if (value.alias_of != kNoValue) return true;
  }
  return false;
}

ModelGraph open_graph(const std::string& bundle, const Manifest& m, const std::string& name, int32_t tokens,
                      const ModelOptions& options, ThreadPool& pool) {
  ModelGraph out;
  out.tokens = tokens;
  out.graph = ModelFile::open(bundle + "/" + name)->import(pool);
  check_signature(out.graph, m, tokens);
  out.is_fused = options.fuse && fuse(out.graph);
  out.in_place = writes_in_place(out.graph);
  if (!out.in_place && writes_any_input(out.graph)) {
    fail_unsupported(out.graph.file + ": some caches are written in place and others are not");
  }
  return out;
}

void count_weights(const Graph& graph, std::map<std::string, size_t>& bytes) {
  for (const Value& value : graph.values) {
    if (value.kind == Value::Kind::Parameter) bytes[value.name] = value.tensor.bytes();
  }
}

}  // namespace

std::unique_ptr<Model> Model::open(const std::string& bundle, const ModelOptions& options) {
  std::unique_ptr<Model> model(new Model(Manifest::read(bundle), options.threads));
  const Manifest& m = model->manifest_;
  for (const BundleFile& file : m.files) {
    const std::string path = bundle + "/" + file.name;
    check_size(path, file);
    const bool is_graph = file.name == m.prefill_graph || file.name == m.decode_graph;
    if (is_graph || options.verify_weights) check_digest(path, file);
  }
  model->prefill_ = open_graph(bundle, m, m.prefill_graph, m.prefill_chunk, options, model->pool_);
  model->decode_ = open_graph(bundle, m, m.decode_graph, 1, options, model->pool_);
  model->exact_ = options.exact;
  std::vector<Graph*> fused;
  for (ModelGraph* g : {&model->prefill_, &model->decode_}) {
    if (g->is_fused) fused.push_back(&g->graph);
  }
  pack_weights(fused, model->pool_);
  // What a fused plan still reads from the file is the table of embeddings, a row for a token.
  for (const Graph* graph : fused) {
    for (const Value& value : graph->values) {
      if (value.kind != Value::Kind::Parameter || value.packed) continue;
      MappedFile::expect_scattered_reads(value.tensor.data, value.tensor.bytes());
    }
  }
  std::map<std::string, size_t> weights;  // one set for both graphs
  count_weights(model->prefill_.graph, weights);
  count_weights(model->decode_.graph, weights);
  for (const auto& [name, bytes] : weights) model->weight_bytes_ += bytes;
  return model;
}

size_t Model::kv_cache_bytes() const {
  size_t bytes = 0;
  for (size_t i = 0; i < manifest_.cache_count(); ++i) {
    const TensorType type = manifest_.cache_type(i);
    bytes += nbytes(type.dtype, type.dims);
  }
  return bytes;
}

}  // namespace mllm
