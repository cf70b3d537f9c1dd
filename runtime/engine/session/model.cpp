#include "session/model.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/resident.h"
#include "graph/fuse.h"
#include "graph/importer.h"
#include "graph/plan.h"
#include "graph/retype.h"
#include "kernels/fused/linear_operands.h"
#include "kernels/fused/pack_weights.h"
#include "session/file_check.h"

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

// What a fused graph takes for the bundle's context and chunk, as the manifest has them now.
std::vector<TensorType> input_types(const Manifest& m, int32_t tokens) {
  std::vector<TensorType> types{
      {DType::Int32, {m.batch_size, tokens}}, {DType::Int32, {m.batch_size}}, {DType::Int32, {m.batch_size}}};
  for (size_t i = 0; i < m.cache_count(); ++i) types.push_back(m.cache_type(i));
  return types;
}

constexpr uint64_t kWindow = 64 << 10;  // what the system brings in around a byte, at least

// Copies what runs of a fused graph read where it is: no weights of products, and not the table of
// embeddings, of which rows are read from the file. Reading a few bytes where they are in a mapped file may
// bring in megabytes around them.
void copy_small_parameters(Graph& graph) {
  using fused::LinearOperands;
  for (const Node& node : graph.nodes) {
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      Value& value = graph.value(node.inputs[i]);
      const bool is_product = node.op == "fused.Linear" && i >= LinearOperands::kFirstWeight &&
                              (i - LinearOperands::kFirstWeight) % LinearOperands::kOperands < 3;
      if (value.kind != Value::Kind::Parameter || is_product || (node.op == "fused.Embedding" && i == 0))
        continue;
      const auto file = MappedFile::file_of(value.tensor.data, value.tensor.bytes());
      if (!file) continue;
      Tensor copy = allocate(value.type.dtype, value.type.dims);
      file->copy(value.tensor.data, copy.bytes(), copy.data);
      value.tensor = std::move(copy);
    }
  }
}

void release_parameters(const Graph& graph) {
  for (const Value& value : graph.values) {
    if (value.kind == Value::Kind::Parameter) MappedFile::release(value.tensor.data, value.tensor.bytes());
  }
}

uint64_t thread_bytes(const Graph& graph) {
  uint64_t most = 0;
  for (const Node& node : graph.nodes) {
    if (node.op == "fused.Linear")
      most = std::max<uint64_t>(most, fused::linear_thread_bytes(OpArgs(graph, node)));
  }
  return most;
}

// A plan's copy of its graph, and what it keeps beside it.
uint64_t graph_bytes(const Graph& graph) {
  constexpr uint64_t kValue = 768, kNode = 1024;
  return graph.values.size() * kValue + graph.nodes.size() * kNode;
}

}  // namespace

std::unique_ptr<Model> Model::open(const std::string& bundle, const ModelOptions& options) {
  Manifest read = Manifest::read(bundle);
  // Before the pool starts its threads, which inherit both.
  if (!options.cores.empty()) use_cores(options.cores);
  use_priority(options.priority);
  std::unique_ptr<Model> model(new Model(std::move(read), options.threads));
  Manifest& m = model->manifest_;
  std::vector<FileCheck> checks;
  for (const BundleFile& file : m.files) {
    const std::string path = bundle + "/" + file.name;
    check_size(path, file);
    const bool is_graph = file.name == m.prefill_graph || file.name == m.decode_graph;
    if (is_graph) {
      FileCheck(path, file.sha256).finish();
    } else if (options.verify_weights) {
      checks.emplace_back(path, file.sha256);
    }
  }
  model->prefill_ = open_graph(bundle, m, m.prefill_graph, m.prefill_chunk, options, model->pool_);
  model->decode_ = open_graph(bundle, m, m.decode_graph, 1, options, model->pool_);
  model->exact_ = options.exact;
  std::vector<Graph*> fused;
  for (ModelGraph* g : {&model->prefill_, &model->decode_}) {
    if (g->is_fused) fused.push_back(&g->graph);
  }
  std::map<std::string, size_t> weights;  // one set for both graphs
  count_weights(model->prefill_.graph, weights);
  count_weights(model->decode_.graph, weights);
  for (const auto& [name, bytes] : weights) model->weight_bytes_ += bytes;
  WeightPacker packer(fused);
  for (Graph* graph : fused) {
    copy_small_parameters(*graph);
    release_parameters(*graph);  // fusion has looked at some
  }
  if (options.max_memory != 0) model->fit_into(bundle, options.max_memory, packer);

  uint64_t done = 0;
  const auto before_reading = [&](std::span<const uint8_t> part) {
    for (FileCheck& check : checks) check.read_until(part.data() + part.size());
    if (options.on_progress) options.on_progress(done, packer.stored_bytes());
    done += part.size();
  };
  try {
    packer.pack(model->pool_, before_reading);
  } catch (const Error&) {  // a damaged file is the better explanation
    for (FileCheck& check : checks) check.finish();
    throw;
  }
  for (FileCheck& check : checks) check.finish();
  if (options.on_progress) options.on_progress(done, packer.stored_bytes());
  // What a fused plan still reads from the file are rows of the table of embeddings.
  for (const Graph* graph : fused) release_parameters(*graph);
  return model;
}

void Model::fit_into(const std::string& bundle, uint64_t limit, const WeightPacker& packer) {
  // Pages of the program that have not been needed yet, and what the allocator of the C library holds back.
  constexpr uint64_t kProgramGrowth = 4 << 20;
  constexpr uint64_t kPerThread = 256 << 10;
  constexpr uint64_t kHugePage = 2 << 20;
  // A token's logits, as they were computed, as the session keeps them and with penalties; candidates and
  // counts of the sampler.
  constexpr uint64_t kPerToken = 40;
  const auto threads = static_cast<uint64_t>(pool_.threads());
  MemoryNeeds& needs = memory_.needs;
  needs.context = manifest_.max_seq_len;
  needs.chunk = manifest_.prefill_chunk;
  needs.can_shrink = is_fused();
  needs.position = kv_cache_bytes() / static_cast<uint64_t>(needs.context);
  needs.program = resident_bytes() + kProgramGrowth + threads * kPerThread;
  uint64_t fixed =
      graph_bytes(prefill_.graph) + graph_bytes(decode_.graph) +
      kPerToken * static_cast<uint64_t>(manifest_.vocab_size) * static_cast<uint64_t>(manifest_.batch_size) +
      Plan::bytes_needed(decode_.graph, pool_) + threads * thread_bytes(decode_.graph);
  if (is_fused()) {
    needs.weights = (packer.packed_bytes() + kHugePage - 1) / kHugePage * kHugePage;
    // Reading at its ends may bring in huge pages, where the file has any.
    needs.loading =
        std::min<uint64_t>(packer.loading_bytes() + (threads + 2) * kHugePage, weight_bytes_ + kWindow);
  } else {
    // Parameters are read where they are, and calls copy caches.
    needs.weights = weight_bytes_;
    fixed += 2 * kv_cache_bytes();
  }
  std::map<int32_t, uint64_t> known;
  const auto chunk_bytes = [&](int32_t chunk) {
    auto [entry, is_new] = known.try_emplace(chunk, 0);
    if (!is_new) return entry->second;
    Graph graph = prefill_.graph;
    if (needs.can_shrink) retype(graph, input_types(manifest_, chunk));
    return entry->second = fixed + Plan::bytes_needed(graph, pool_) + threads * thread_bytes(graph);
  };
  memory_.plan = plan_memory(bundle, limit, needs, chunk_bytes);
  memory_.limit = limit;
  memory_.text = "at most " + megabytes(memory_.plan.peak) + ": " + plan_text(memory_.plan, needs);
  if (!needs.can_shrink) return;
  manifest_.max_seq_len = memory_.plan.context;
  manifest_.prefill_chunk = prefill_.tokens = memory_.plan.chunk;
  retype(prefill_.graph, input_types(manifest_, manifest_.prefill_chunk));
  retype(decode_.graph, input_types(manifest_, 1));
}

Model::SessionShare::SessionShare(const Model& model) : model_(model) {
  const uint64_t others = model.sessions_.fetch_add(1);
  const Memory& memory = model.memory_;
  if (memory.limit == 0 || others <= (memory.limit - memory.plan.peak) / memory.plan.session) return;
  model.sessions_.fetch_sub(1);
  throw Error(MLLM_ERROR_OUT_OF_MEMORY,
              "max_memory of " + std::to_string(memory.limit) + " bytes has no room for another session of " +
                  megabytes(memory.plan.session) + " beside the " + std::to_string(others) +
                  " that are open; close one, or allow more memory");
}

std::string Model::context_text() const {
  const std::string positions = std::to_string(manifest_.max_seq_len);
  if (!is_shortened()) return "max_seq_len of the bundle is " + positions;
  return "max_memory leaves a context of " + positions + " of the bundle's " +
         std::to_string(memory_.needs.context);
}

std::string Model::longer_context() const {
  return is_shortened() ? "allow more memory" : "export with a larger --max-seq-len";
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
