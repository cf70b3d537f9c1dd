#include "cli/bench_costs.h"

#include <algorithm>
#include <string_view>

#include "cli/strings.h"

namespace mllm::cli {
namespace {

constexpr int64_t kAnySize = INT64_MAX;

int64_t integer(const Json& json, const char* name) {
  return json.at(name).integer(0, kAnySize);
}

int64_t read_bytes(const Json& parameters) {
  // A tied head of float weights is the embedding table itself, read from end to end.
  const Json::Array& all = parameters.array();
  const bool has_head = std::ranges::any_of(
      all, [](const Json& one) { return one.at("name").string().starts_with("lm_head."); });
  int64_t out = 0;
  for (const Json& one : all) {
    const std::string& name = one.at("name").string();
    const bool is_looked_up =
        name.starts_with("rotary.") || (name.starts_with("model.embed_tokens.") && has_head);
    const Json::Array& dims = one.at("dims").array();
    const int64_t rows = is_looked_up && !dims.empty() ? dims[0].integer(0, kAnySize) : 1;
    out += integer(one, "nbytes") / std::max<int64_t>(rows, 1);
  }
  return out;
}

}  // namespace

Costs costs_of(const Json& manifest, const Json& parameters) {
  const Json& model = manifest.at("model");
  const int64_t hidden = integer(model, "hidden_size"), width = integer(model, "intermediate_size");
  const int64_t head = integer(model, "head_dim"), kv_heads = integer(model, "num_key_value_heads");
  const int64_t queries = integer(model, "num_attention_heads") * head, keys = kv_heads * head;
  const int64_t layers = integer(model, "num_hidden_layers");
  const std::string& kv = manifest.at("kv_dtype").string();
  const int64_t item = kv == "int8" ? 1 : kv == "float16" ? 2 : 4;
  const Json* granularity = manifest.find("kv_granularity");
  const bool has_row_scales = granularity && granularity->is_string() && granularity->string() == "per_token";
  return {.weight_bytes = read_bytes(parameters),
          .kv_bytes_per_row = 2 * layers * keys * item + (has_row_scales ? 4 * 2 * layers * kv_heads : 0),
          .body_macs = layers * (hidden * (2 * queries + 2 * keys) + 3 * hidden * width),
          .head_macs = hidden * integer(model, "vocab_size")};
}

int64_t linear_bytes(const std::string& name, const Json& parameters) {
  int64_t total = 0;
  std::string_view rest = name;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find_first_of("+,"), rest.size());
    std::string stem(stripped(rest.substr(0, end)));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (stem.ends_with(".weight")) stem.resize(stem.size() - 7);
    bool is_found = false;
    for (const Json& one : parameters.array()) {
      if (stem.empty() || !one.at("name").string().starts_with(stem + ".")) continue;
      is_found = true;
      total += integer(one, "nbytes");
    }
    if (!is_found) return -1;
  }
  return name.empty() ? -1 : total;
}

}  // namespace mllm::cli
