#include "cli/bench_report.h"

#include <sys/utsname.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "base/number_text.h"
#include "cli/failure.h"
#include "cli/files.h"
#include "cli/numbers.h"
#include "cli/sizes.h"
#include "cli/strings.h"

namespace mllm::cli {
namespace {

constexpr std::string_view kAbsent = "–";

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// ---- JSON

std::string sample(const std::vector<double>& values) {
  const auto [low, high] = std::ranges::minmax(values);
  return "{\"median\": " + number_text(median(values)) + ", \"low\": " + number_text(low) +
         ", \"high\": " + number_text(high) + ", \"count\": " + std::to_string(values.size()) + "}";
}

std::string list(size_t count, const std::function<std::string(size_t)>& item) {
  std::string out = "[";
  for (size_t i = 0; i < count; ++i) out += (i ? ", " : "") + item(i);
  return out + "]";
}

std::string cpu_name() {
  std::string text;
  try {
    text = read_file("/proc/cpuinfo");
  } catch (const Failure&) {
  }
  utsname names{};
  ::uname(&names);
  const size_t at = text.find("model name");
  if (at == text.npos) return names.machine;
  const std::string_view line = std::string_view(text).substr(at, text.find('\n', at) - at);
  return std::string(stripped(line.substr(line.find(':') + 1)));
}

std::string system_name() {
  utsname names{};
  ::uname(&names);
  return names.sysname;
}

std::string prefill_json(const BenchPlan& plan, const BenchTimes& times, const Costs& costs, size_t i) {
  const double tokens = plan.prefill[i];
  std::vector<double> rates, shares;
  for (const PrefillTime& one : times.prefill[i]) {
    rates.push_back(tokens / one.seconds);
    shares.push_back(costs.prefill_macs(tokens) / (one.seconds * one.peak_macs));
  }
  return "{\"tokens\": " + std::to_string(plan.prefill[i]) + ", \"tokens_per_second\": " + sample(rates) +
         ", \"macs\": " + fixed(costs.prefill_macs(tokens), 0) + ", \"share_of_peak\": " + sample(shares) +
         "}";
}

std::string decode_json(const BenchPlan& plan, const BenchTimes& times, const Costs& costs, size_t i) {
  const double steps = plan.decode_steps;
  // Step k attends to context + k + 1 tokens; this is their mean.
  const double bytes = costs.decode_bytes(plan.contexts[i] + (steps + 1) / 2);
  std::vector<double> rates, shares;
  for (const DecodeTime& one : times.decode[i]) {
    rates.push_back(steps / std::accumulate(one.step_seconds.begin(), one.step_seconds.end(), 0.0));
    shares.push_back(steps * bytes / one.readable_bytes);
  }
  return "{\"context\": " + std::to_string(plan.contexts[i]) + ", \"tokens_per_second\": " + sample(rates) +
         ", \"bytes_per_token\": " + number_text(bytes) +
         ", \"weight_bytes_per_token\": " + std::to_string(costs.weight_bytes) +
         ", \"share_of_read_bandwidth\": " + sample(shares) + "}";
}

std::string first_token_json(const BenchPlan& plan, const BenchTimes& times) {
  const auto shallow = static_cast<size_t>(std::ranges::min_element(plan.contexts) - plan.contexts.begin());
  std::vector<double> ratios;
  for (size_t k = 0; k < times.first_token.size(); ++k)
    ratios.push_back(times.first_token[k] / median(times.decode[shallow][k].step_seconds));
  return "{\"seconds\": " + sample(times.first_token) + ", \"decode_steps\": " + sample(ratios) + "}";
}

std::string bytes_json(double bytes) {
  return bytes > 0 ? fixed(bytes, 0) : "null";
}

// ---- Text

std::string right(const std::string& text, size_t width) {
  size_t characters = 0;
  for (const char c : text) characters += (c & 0xc0) != 0x80;
  return (characters < width ? std::string(width - characters, ' ') : "") + text;
}

std::string left(const std::string& text, size_t width) {
  return text + (text.size() < width ? std::string(width - text.size(), ' ') : "");
}

double number(const Json& json, const char* name) {
  return json.at(name).number();
}

std::string percent(double share) {
  return fixed(share * 100, 1) + "%";
}

std::string rate(const Json& sample) {
  const std::string spread =
      "(" + fixed(number(sample, "low"), 1) + " – " + fixed(number(sample, "high"), 1) + ")";
  const size_t width = spread.size() - 2;  // the dash has three bytes
  return right(fixed(number(sample, "median"), 1), 10) + " " + spread +
         (width < 21 ? std::string(21 - width, ' ') : "");
}

std::string machine_text(const Json& machine) {
  const double matrix = number(machine.at("matrix_macs"), "median");
  return "; reads " + fixed(number(machine.at("read_bandwidth"), "median") / 1e9, 1) + " GB/s, multiplies " +
         fixed(number(machine.at("int8_macs"), "median") / 1e9, 0) + " int8 GMAC/s" +
         (matrix > 0 ? " (" + fixed(matrix / 1e9, 0) + " in the matrix unit)" : "");
}

// "model.layers.12.mlp.up_proj" → "model.layers.*.mlp.up_proj": layers that differ by number are one.
std::string without_numbers(const std::string& name) {
  std::string out;
  for (size_t i = 0; i < name.size(); ++i) {
    out += name[i];
    if (name[i] != '.') continue;
    size_t end = i + 1;
    while (end < name.size() && '0' <= name[end] && name[end] <= '9') ++end;
    if (end == i + 1 || end == name.size() || name[end] != '.') continue;
    out += '*';
    i = end - 1;
  }
  return out;
}

struct Row {
  int64_t calls = 0;
  double seconds = 0;
  int64_t bytes = 0;  // read; -1: not known
};

std::vector<std::pair<std::string, Row>> grouped(const Json& entries, const Json& parameters) {
  std::vector<std::pair<std::string, Row>> rows;
  for (const Json& one : entries.array()) {
    const std::string &op = one.at("operator").string(), &name = one.at("name").string();
    const bool is_linear = op.find("inear") != op.npos;
    const std::string label = is_linear ? op + " " + without_numbers(name) : op;
    const int64_t calls = one.at("calls").integer(0, INT64_MAX);
    const int64_t stored = is_linear ? linear_bytes(name, parameters) : -1;
    auto found = std::ranges::find(rows, label, &std::pair<std::string, Row>::first);
    if (found == rows.end()) found = rows.insert(found, {label, {}});
    Row& row = found->second;
    row.calls += calls;
    row.seconds += number(one, "seconds");
    row.bytes = stored < 0 || row.bytes < 0 ? -1 : row.bytes + stored * calls;
  }
  std::ranges::stable_sort(rows, std::greater(), [](const auto& row) { return row.second.seconds; });
  return rows;
}

}  // namespace

std::string bench_json(const BenchFacts& facts, const BenchPlan& plan, const BenchTimes& times,
                       const std::vector<std::string>& notes) {
  const Costs costs = costs_of(facts.manifest, facts.parameters);
  const Json& m = facts.manifest;
  int64_t file_bytes = 0;
  for (const auto& [name, file] : m.at("files").object()) file_bytes += file.at("size").integer(0, INT64_MAX);
  const auto copied = [&](const char* name) {
    return std::string("\"") + name + "\": " + json_text(m.at(name));
  };
  return "{\"format\": \"mindir-llm-bench\", \"format_version\": 1, \"machine\": {\"cpu\": " +
         json_quoted(cpu_name()) + ", \"system\": " + json_quoted(system_name()) +
         ", \"threads\": " + std::to_string(facts.info.threads) +
         ", \"read_bandwidth\": " + sample(times.read_bandwidth) +
         ", \"int8_macs\": " + sample(times.int8_macs) + ", \"matrix_macs\": " + sample(times.matrix_macs) +
         "}, \"bundle\": {\"path\": " + json_quoted(facts.path) + ", " + copied("producer") + ", " +
         copied("target") + ", \"scheme\": " + json_text(m.at("quantization").at("scheme")) + ", " +
         copied("dtype") + ", " + copied("kv_dtype") +
         ", \"max_seq_len\": " + std::to_string(facts.info.max_seq_len) +
         ", \"prefill_chunk\": " + std::to_string(facts.info.prefill_chunk) +
         ", \"file_bytes\": " + std::to_string(file_bytes) +
         ", \"exact\": " + (facts.exact ? "true" : "false") + "}, \"prefill\": " +
         list(plan.prefill.size(), [&](size_t i) { return prefill_json(plan, times, costs, i); }) +
         ", \"decode\": " +
         list(plan.contexts.size(), [&](size_t i) { return decode_json(plan, times, costs, i); }) +
         ", \"first_token\": " + first_token_json(plan, times) + ", \"load_seconds\": " + sample(times.load) +
         ", \"memory\": {\"before_open\": " + bytes_json(times.memory_before) +
         ", \"after_open\": " + bytes_json(times.memory_opened) +
         ", \"peak\": " + bytes_json(times.memory_peak) +
         ", \"floor\": " + std::to_string(facts.info.weight_bytes + facts.info.kv_cache_bytes) +
         ", \"weight_bytes\": " + std::to_string(facts.info.weight_bytes) +
         ", \"kv_cache_bytes\": " + std::to_string(facts.info.kv_cache_bytes) +
         ", \"prompt_tokens\": " + std::to_string(plan.memory_prompt) +
         ", \"decode_steps\": " + std::to_string(plan.memory_steps) +
         "}, \"notes\": " + list(notes.size(), [&](size_t i) { return json_quoted(notes[i]); }) + "}";
}

std::string bench_text(const Json& report) {
  const Json &bundle = report.at("bundle"), &machine = report.at("machine"), &memory = report.at("memory");
  const Json &first = report.at("first_token"), &load = report.at("load_seconds");
  const std::string &scheme = bundle.at("scheme").string(), &dtype = bundle.at("dtype").string();
  std::string out =
      bundle.at("path").string() + ": " + (scheme == "none" ? dtype : scheme + ", " + dtype) + ", KV cache " +
      bundle.at("kv_dtype").string() + ", " + size_text(number(bundle, "file_bytes")) + ", max_seq_len " +
      json_text(bundle.at("max_seq_len")) + (bundle.at("exact").boolean() ? ", exact activations" : "") +
      "\n" + machine.at("cpu").string() + ", " + json_text(machine.at("threads")) + " threads" +
      machine_text(machine) + "\nmedians of " + json_text(load.at("count")) +
      " repetitions (lowest – highest)\n\n" + right("prefill", 9) + " " + right("tokens/s", 10) +
      std::string(23, ' ') + right("of multiply peak", 18) + "\n";
  for (const Json& one : report.at("prefill").array()) {
    out += right(json_text(one.at("tokens")), 9) + " " + rate(one.at("tokens_per_second")) + " " +
           right(percent(number(one.at("share_of_peak"), "median")), 18) + "\n";
  }
  out += "\n" + right("decode at", 9) + " " + right("tokens/s", 10) + std::string(23, ' ') +
         right("of read bandwidth", 18) + " " + right("bytes/token", 12) + "\n";
  for (const Json& one : report.at("decode").array()) {
    out += right(json_text(one.at("context")), 9) + " " + rate(one.at("tokens_per_second")) + " " +
           right(percent(number(one.at("share_of_read_bandwidth"), "median")), 18) + " " +
           right(size_text(number(one, "bytes_per_token")), 12) + "\n";
  }
  const bool knows_memory = !memory.at("peak").is_null();
  out += "\nfirst token   " + fixed(number(first.at("seconds"), "median") * 1e3, 2) + " ms, " +
         fixed(number(first.at("decode_steps"), "median"), 2) +
         " decode steps (prompt of one token)\nload          " + fixed(number(load, "median") * 1e3, 1) +
         " ms (" + fixed(number(load, "low") * 1e3, 1) + " – " + fixed(number(load, "high") * 1e3, 1) +
         "), page cache warm, fresh process\npeak memory   " +
         (knows_memory ? size_text(number(memory, "peak")) : std::string(kAbsent)) +
         " resident; weights + KV cache are " + size_text(number(memory, "floor")) +
         (knows_memory ? ", the program alone was " + size_text(number(memory, "before_open")) : "") + "\n";
  for (const Json& one : report.at("notes").array()) out += "note: " + one.string() + "\n";
  return out;
}

std::string profile_text(const Json& profile, const BenchFacts& facts, const BenchPlan& plan) {
  std::string out;
  for (const bool is_prefill : {true, false}) {
    const Json& entries = profile.at(is_prefill ? "prefill" : "decode");
    const auto rows = grouped(entries, facts.parameters);
    double total = 0;
    size_t width = 8;
    for (const Json& one : entries.array()) total += number(one, "seconds");
    for (const auto& [label, row] : rows) width = std::max(width, label.size());
    out += (is_prefill ? "prefill, " + std::to_string(plan.memory_prompt) + " tokens: "
                       : "\ndecode, " + std::to_string(plan.memory_steps) + " steps: ") +
           fixed(total * 1e3, 1) + " ms in operators\n  " + left("operator", width) + " " +
           right("calls", 7) + " " + right("ms", 10) + " " + right("share", 7) + " " + right("GB/s", 7) +
           "\n";
    for (const auto& [label, row] : rows) {
      const bool has_speed = row.bytes > 0 && row.seconds > 0;
      const std::string speed =
          has_speed ? fixed(static_cast<double>(row.bytes) / row.seconds / 1e9, 1) : std::string(kAbsent);
      out += "  " + left(label, width) + " " + right(std::to_string(row.calls), 7) + " " +
             right(fixed(row.seconds * 1e3, 2), 10) + " " +
             right(total > 0 ? percent(row.seconds / total) : std::string(kAbsent), 7) + " " +
             right(speed, 7) + "\n";
    }
  }
  return out;
}

}  // namespace mllm::cli
