#include "cli/inspect_text.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "base/number_text.h"
#include "cli/sizes.h"

namespace mllm::cli {
namespace {

constexpr int64_t kAnySize = INT64_MAX;
constexpr size_t kColumn = 14;

using Lines = std::vector<std::string>;

int64_t integer(const Json& json, const char* name) {
  return json.at(name).integer(INT64_MIN, kAnySize);
}

std::string size_of(const Json& json, const char* name) {
  return size_text(static_cast<double>(integer(json, name)));
}

bool is_true(const Json* json) {
  return json && json->visit([]<class T>(const T& v) {
    if constexpr (std::is_same_v<T, std::monostate>) {
      return false;
    } else if constexpr (std::is_same_v<T, bool> || std::is_arithmetic_v<T>) {
      return v != 0;
    } else {
      return !v.empty();
    }
  });
}

std::string padded(std::string_view title) {
  return std::string(title) + std::string(kColumn - title.size(), ' ');
}

std::string joined(const Lines& items, std::string_view between) {
  std::string out;
  for (const std::string& item : items) out += (out.empty() ? "" : std::string(between)) + item;
  return out;
}

// A value as Python shows it.
std::string shown(const Json& json) {
  return json.visit([]<class T>(const T& v) -> std::string {
    if constexpr (std::is_same_v<T, std::monostate>) {
      return "None";
    } else if constexpr (std::is_same_v<T, bool>) {
      return v ? "True" : "False";
    } else if constexpr (std::is_same_v<T, int64_t>) {
      return std::to_string(v);
    } else if constexpr (std::is_same_v<T, double>) {
      return number_text(v);
    } else if constexpr (std::is_same_v<T, std::string>) {
      return v;
    } else if constexpr (std::is_same_v<T, Json::Array>) {
      Lines items;
      for (const Json& one : v) items.push_back(one.is_string() ? "'" + shown(one) + "'" : shown(one));
      return "[" + joined(items, ", ") + "]";
    } else {
      Lines items;
      for (const auto& [name, one] : v)
        items.push_back("'" + name + "': " + (one.is_string() ? "'" + shown(one) + "'" : shown(one)));
      return "{" + joined(items, ", ") + "}";
    }
  });
}

// "a16w4 (rtn, int4 weights, one scale per 32 inputs of an output channel)"; says only what is there.
std::string quantization(const Json& entry) {
  Lines details;
  if (const Json* method = entry.find("method")) details.push_back(shown(*method));
  if (const Json* bits = entry.find("weight_bits")) details.push_back("int" + shown(*bits) + " weights");
  if (const Json* bits = entry.find("activation_bits"))
    details.push_back("int" + shown(*bits) + " activations");
  if (const Json* group = entry.find("group_size"); is_true(group)) {
    details.push_back("one scale per " + shown(*group) + " inputs of an output channel");
  } else if (entry.find("granularity")) {
    details.push_back("one scale per output channel");
  }
  return entry.at("scheme").string() + (details.empty() ? "" : " (" + joined(details, ", ") + ")");
}

// {0, 1, 2, 5} → "0–2, 5"; the numbers ascend.
std::string ranges(const std::vector<int64_t>& numbers) {
  Lines runs;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    runs.push_back(std::to_string(numbers[i]) + (end - i > 1 ? "–" + std::to_string(numbers[end - 1]) : ""));
    i = end;
  }
  return joined(runs, ", ");
}

// A list of pairs in the order in which keys are seen first.
template <class Key, class Value>
Value& entry_of(std::vector<std::pair<Key, Value>>& list, const Key& key) {
  const auto found = std::ranges::find(list, key, &std::pair<Key, Value>::first);
  if (found != list.end()) return found->second;
  return list.emplace_back(key, Value()).second;
}

// Linear layers that differ from the others: "q_proj, k_proj of layers 0–3, 7: float".
Lines exceptions(const Json& layers) {
  using Numbers = std::vector<int64_t>;
  std::vector<std::pair<std::pair<std::string, std::string>, Numbers>> by_kind;
  for (const auto& [name, layer] : layers.object()) {
    Lines parts(1);
    for (const char c : name) {
      if (c == '.') {
        parts.emplace_back();
      } else {
        parts.back() += c;
      }
    }
    const std::pair<std::string, std::string> key(parts.back(),
                                                  layer.is_null() ? "float" : quantization(layer));
    Numbers& numbers = entry_of(by_kind, key);
    for (const std::string& part : parts) {
      if (!part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == part.npos)
        numbers.push_back(std::stoll(part));
    }
  }
  std::vector<std::pair<std::pair<Numbers, std::string>, Lines>> alike;
  for (auto& [key, numbers] : by_kind) {
    std::ranges::sort(numbers);
    entry_of(alike, std::pair(numbers, key.second)).push_back(key.first);
  }
  Lines out;
  for (const auto& [key, kinds] : alike) {
    out.push_back(joined(kinds, ", ") + (key.first.empty() ? "" : " of layers " + ranges(key.first)) + ": " +
                  key.second);
  }
  return out;
}

// One line each; the layers' caches, which are all alike, on one.
void add_tensors(Lines& lines, std::string_view title, const Json& tensors) {
  const auto is_cache = [](const std::string& name, bool scales) {
    return scales ? name.starts_with("key_cache_scale.") || name.starts_with("value_cache_scale.")
                  : name.starts_with("key_cache.") || name.starts_with("value_cache.");
  };
  const auto type_of = [](const Json& one) { return one.at("dtype").string() + json_text(one.at("dims")); };
  const Json::Array& all = tensors.array();
  std::vector<const Json*> groups[2];
  bool are_alike[2] = {true, true};
  for (const Json& one : all) {
    for (const int scales : {0, 1}) {
      if (!is_cache(one.at("name").string(), scales != 0)) continue;
      groups[scales].push_back(&one);
      are_alike[scales] = are_alike[scales] && type_of(one) == type_of(*groups[scales][0]);
    }
  }
  bool is_first = true;
  for (const Json& one : all) {
    std::string name = one.at("name").string();
    bool is_left_out = false;
    for (const int scales : {0, 1}) {
      const auto& group = groups[scales];
      if (!is_cache(name, scales != 0) || group.size() < 2 || !are_alike[scales]) continue;
      is_left_out = &one != group[0];
      name = group.front()->at("name").string() + " … " + group.back()->at("name").string() + " (" +
             std::to_string(group.size()) + ")";
      break;
    }
    if (is_left_out) continue;
    lines.push_back(padded(is_first ? title : "") + name + ": " + type_of(one));
    is_first = false;
  }
}

std::string counts(const Json& json) {
  std::vector<std::pair<int64_t, std::string>> ordered;
  for (const auto& [name, count] : json.object()) ordered.emplace_back(-count.integer(0, kAnySize), name);
  std::ranges::sort(ordered);
  Lines items;
  for (const auto& [count, name] : ordered) items.push_back(name + " " + std::to_string(-count));
  return items.empty() ? "none" : joined(items, ", ");
}

Lines graph_lines(const Json& report) {
  const Json& memory = report.at("memory");
  std::map<std::string, int64_t> by_dtype;
  for (const auto& [dtype, bytes] : memory.at("weights").object())
    by_dtype[dtype] = bytes.integer(0, kAnySize);
  Lines weights;
  for (const auto& [dtype, bytes] : by_dtype)
    weights.push_back(dtype + " " + size_text(static_cast<double>(bytes)));
  Lines lines;
  add_tensors(lines, "inputs", report.at("inputs"));
  add_tensors(lines, "outputs", report.at("outputs"));
  lines.push_back(padded("operators") + counts(report.at("operators")));
  lines.push_back(padded("plan") + counts(report.at("plan")));
  lines.push_back(padded("weights") + std::to_string(report.at("parameters").array().size()) +
                  " tensors: " + (weights.empty() ? "none" : joined(weights, ", ")));
  lines.push_back(padded("arena") + size_of(memory, "arena"));
  return lines;
}

Lines bundle_lines(const Json& report) {
  const Json& memory = report.at("memory");
  const Json& tokenizer = report.at("tokenizer");
  const Json& granularity = report.at("kv_granularity");
  Lines model, files;
  for (const auto& [name, value] : report.at("model").object()) model.push_back(name + " " + shown(value));
  for (const auto& [name, file] : report.at("files").object())
    files.push_back(name + " " + size_of(file, "size"));
  Lines lines = {padded("bundle") + report.at("path").string() + " (" + report.at("producer").string() + ")",
                 padded("model") + joined(model, ", "),
                 padded("target") + report.at("target").string() + ", " + report.at("dtype").string() +
                     ", KV cache " + report.at("kv_dtype").string() +
                     (is_true(&granularity) ? " " + granularity.string() : ""),
                 padded("shapes") + "batch " + shown(report.at("batch_size")) + ", max_seq_len " +
                     shown(report.at("max_seq_len")) + ", prefill chunk " + shown(report.at("prefill_chunk")),
                 padded("quantization") + quantization(report.at("quantization"))};
  if (const Json* layers = report.at("quantization").find("layers")) {
    for (const std::string& line : exceptions(*layers)) lines.push_back(padded("") + line);
  }
  lines.push_back(padded("tokenizer") +
                  (is_true(&tokenizer)
                       ? tokenizer.at("kind").string() +
                             (is_true(tokenizer.find("chat_template")) ? ", chat template" : "")
                       : "none: token ids only"));
  lines.push_back(padded("memory") + "weights " + size_of(memory, "weights") + ", KV cache " +
                  size_of(memory, "kv_cache") + " a session, arena " + size_of(memory, "arena"));
  lines.push_back(padded("execution") +
                  (report.at("fused").boolean() ? "fused" : "node by node: part of the graphs is not fused"));
  lines.push_back(padded("files") + joined(files, ", "));
  for (const auto& [name, graph] : report.at("graphs").object()) {
    lines.push_back("");
    lines.push_back(name + ": " + graph.at("path").string());
    for (const std::string& line : graph_lines(graph)) lines.push_back("  " + line);
  }
  return lines;
}

}  // namespace

std::string report_text(const Json& report) {
  return joined(report.find("graphs") ? bundle_lines(report) : graph_lines(report), "\n");
}

}  // namespace mllm::cli
