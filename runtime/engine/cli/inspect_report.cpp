#include "cli/inspect_report.h"

#include <algorithm>
#include <map>
#include <vector>

#include "base/json.h"
#include "cli/failure.h"
#include "cli/handles.h"

namespace mllm::cli {
namespace {

constexpr int64_t kAnySize = INT64_MAX;

// The engine's own description of one file.
Json describe(const std::string& path) {
  mllm_graph* raw = nullptr;
  check(mllm_graph_open(path.c_str(), 1, &raw));
  const Graph graph(raw);
  const char* json = nullptr;
  check(mllm_graph_describe(raw, &json));
  return Json::parse(json, path);
}

std::string member(const std::string& name, const std::string& json) {
  return json_quoted(name) + ": " + json + ", ";
}

std::string number(size_t value) {
  return std::to_string(value);
}

}  // namespace

std::string graph_report(const std::string& path) {
  const Json described = describe(path);
  std::vector<std::pair<std::string, int64_t>> by_dtype;  // in the order of the file
  for (const Json& parameter : described.at("parameters").array()) {
    const std::string& dtype = parameter.at("dtype").string();
    auto found = std::ranges::find(by_dtype, dtype, &std::pair<std::string, int64_t>::first);
    if (found == by_dtype.end()) found = by_dtype.insert(found, {dtype, 0});
    found->second += parameter.at("nbytes").integer(0, kAnySize);
  }
  std::string weights;
  for (const auto& [dtype, bytes] : by_dtype) {
    weights += (weights.empty() ? "" : ", ") + json_quoted(dtype) + ": " + std::to_string(bytes);
  }
  std::string out = "{" + member("path", json_quoted(path));
  for (const auto& [name, value] : described.object()) out += member(name, json_text(value));
  return out + "\"memory\": {\"weights\": {" + weights +
         "}, \"arena\": " + json_text(described.at("arena_bytes")) + "}}";
}

std::string bundle_report(const std::string& path) {
  mllm_model_options options{};
  options.struct_size = sizeof options;
  options.threads = 1;
  mllm_model* raw = nullptr;
  check(mllm_model_open(path.c_str(), &options, &raw));
  Model model(raw);
  mllm_model_info info;
  check(mllm_model_get_info(raw, &info));
  const Json manifest = Json::parse(mllm_model_manifest(raw), path + "/manifest.json");
  model.reset();  // the graphs below load the weights again; not everything at once

  int64_t arena = 0;
  std::map<std::string, std::string> graphs;  // by name
  for (const auto& [name, file] : manifest.at("graphs").object()) {
    const std::string report = graph_report(path + "/" + file.string());
    arena = std::max(arena, Json::parse(report, "report").at("arena_bytes").integer(0, kAnySize));
    graphs[name] = report;
  }
  const auto copied = [&](const char* name) {
    const Json* value = manifest.find(name);
    return member(name, value ? json_text(*value) : "null");
  };
  std::string out = "{" + member("path", json_quoted(path));
  for (const char* name :
       {"producer", "target", "dtype", "kv_dtype", "batch_size", "max_seq_len", "prefill_chunk",
        "kv_granularity", "model", "quantization", "tokenizer", "files"}) {
    out += copied(name);
  }
  out += member("fused", info.fused ? "true" : "false");
  out += member("memory", "{\"weights\": " + number(info.weight_bytes) + ", \"kv_cache\": " +
                              number(info.kv_cache_bytes) + ", \"arena\": " + std::to_string(arena) + "}");
  std::string list;
  for (const auto& [name, report] : graphs)
    list += (list.empty() ? "" : ", ") + json_quoted(name) + ": " + report;
  return out + "\"graphs\": {" + list + "}}";
}

}  // namespace mllm::cli
