#include "cli/engine_options.h"

#include <unistd.h>

#include <chrono>
#include <cmath>

#include "cli/failure.h"
#include "cli/files.h"
#include "cli/numbers.h"

namespace mllm::cli {
namespace {

// How far the loading is, for somebody who waits at a terminal.
class Progress {
 public:
  explicit Progress(mllm_model_options& options) {
    if (::isatty(STDERR_FILENO) != 1) return;
    options.on_progress = [](void* user, uint64_t done, uint64_t all) {
      static_cast<Progress*>(user)->show(done, all);
    };
    options.user = this;
  }
  ~Progress() {
    if (shown_ >= 0) write_err("\r\x1b[K");
  }

 private:
  void show(uint64_t done, uint64_t all) {
    constexpr std::chrono::seconds kPatience{2};
    if (all == 0 || std::chrono::steady_clock::now() - start_ < kPatience) return;
    const auto percent = static_cast<int>(done * 100 / all);
    if (percent == shown_) return;
    shown_ = percent;
    write_err("\rloading the weights: " + std::to_string(percent) + " %");
  }

  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  int shown_ = -1;
};

}  // namespace

uint64_t parse_size(std::string_view text) {
  constexpr std::string_view kUnits = "KMG";
  const auto fail = [&] {
    throw Failure("max_memory is '" + std::string(text) +
                  "', expected bytes such as 512M or 1.5Gi, at least 1 (K, M, G: powers of 1000; Ki, Mi, Gi: "
                  "of 1024)");
  };
  const size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
  const auto number = parse_number(text.substr(0, end));
  std::string_view unit = text.substr(end);
  double factor = 1;
  if (!unit.empty()) {
    const size_t power = kUnits.find(static_cast<char>(unit[0] & ~0x20));
    if (power == kUnits.npos && unit != "B" && unit != "b") fail();
    if (power != kUnits.npos) {
      unit.remove_prefix(1);
      const bool is_binary = unit.starts_with('i');
      if (is_binary) unit.remove_prefix(1);
      factor = std::pow(is_binary ? 1024.0 : 1000.0, static_cast<double>(power + 1));
      if (unit != "" && unit != "B" && unit != "b") fail();
    }
  }
  const double bytes = number ? std::floor(*number * factor) : 0;
  if (!(bytes >= 1 && bytes < 0x1p63)) fail();
  return static_cast<uint64_t>(bytes);
}

Model open_model(const Arguments& arguments) {
  mllm_model_options options{};
  options.struct_size = sizeof options;
  options.threads = static_cast<int32_t>(arguments.integer("--threads").value_or(0));
  options.exact = arguments.has("--exact");
  if (const auto size = arguments.text("--max-memory")) options.max_memory = parse_size(*size);
  const auto cores = arguments.text("--cores");
  if (cores) options.cores = cores->c_str();
  const std::string priority = arguments.text("--priority").value_or("normal");
  options.priority = priority == "low"    ? MLLM_PRIORITY_LOW
                     : priority == "high" ? MLLM_PRIORITY_HIGH
                                          : MLLM_PRIORITY_NORMAL;
  const Progress progress(options);
  mllm_model* model = nullptr;
  check(mllm_model_open(arguments.positional().c_str(), &options, &model));
  return Model(model);
}

void note_memory(const Model& model) {
  mllm_model_memory memory{};
  memory.struct_size = sizeof memory;
  check(mllm_model_get_memory(model.get(), &memory));
  if (memory.max_memory != 0) write_err("memory: " + std::string(memory.text) + "\n");
}

mllm_model_info info_of(const Model& model) {
  mllm_model_info info;
  check(mllm_model_get_info(model.get(), &info));
  return info;
}

}  // namespace mllm::cli
