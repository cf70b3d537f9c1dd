#include "cli/bench_measure.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <numeric>

#include "cli/child.h"
#include "cli/engine_options.h"
#include "cli/failure.h"
#include "cli/files.h"
#include "cli/handles.h"

namespace mllm::cli {
namespace {

// A bundle opened with one session; only its first slot is used.
class Engine {
 public:
  explicit Engine(const Arguments& arguments) : model_(open_model(arguments)), info_(info_of(model_)) {
    mllm_session* session = nullptr;
    check(mllm_session_create(model_.get(), &session));
    session_.reset(session);
  }
  const mllm_model_info& info() const { return info_; }
  mllm_session* session() const { return session_.get(); }
  const Model& model() const { return model_; }

  // Arbitrary tokens for positions start … start + count - 1.
  void feed(int32_t start, int32_t count) {
    ids_.resize(static_cast<size_t>(count));
    for (int32_t i = 0; i < count; ++i) {
      ids_[static_cast<size_t>(i)] =
          static_cast<int32_t>((int64_t{7919} * (start + i) + 13) % info_.vocab_size);
    }
    const mllm_segment segment = {0, ids_.data(), count};
    check(mllm_session_feed(session_.get(), &segment, 1));
  }
  double seconds_of_feed(int32_t start, int32_t count) {
    const auto begin = std::chrono::steady_clock::now();
    feed(start, count);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  void rewind(int32_t position) { check(mllm_session_rewind(session_.get(), 0, position)); }
  // One step that does not count, then back: the probe has emptied the caches, which is not the work's.
  void warm(int32_t position) {
    rewind(position);
    feed(position, 1);
    rewind(position);
  }

 private:
  Model model_;
  mllm_model_info info_;
  Session session_;  // closed before the model
  std::vector<int32_t> ids_;
};

// Peak resident bytes of this process so far; 0 where the system does not tell.
double peak_rss() {
  std::string status;
  try {
    status = read_file("/proc/self/status");
  } catch (const Failure&) {
    return 0;
  }
  const size_t at = status.find("VmHWM:");
  return at == status.npos ? 0 : 1024 * std::strtod(status.c_str() + at + 6, nullptr);
}

std::vector<double> memory_step(const Arguments& arguments, const BenchPlan& plan) {
  const double before = peak_rss();
  Engine engine(arguments);
  const double opened = peak_rss();
  engine.feed(0, plan.memory_prompt);
  for (int32_t step = 0; step < plan.memory_steps; ++step) engine.feed(plan.memory_prompt + step, 1);
  return {before, opened, peak_rss()};
}

std::vector<double> load_step(const Arguments& arguments) {
  const auto begin = std::chrono::steady_clock::now();
  const Engine engine(arguments);
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count()};
}

// What the machine can do, measured between pieces of work. A machine that others share, or one that grows
// warm, changes its speed within seconds: a share of it means something only of what was measured right
// before and right after the work.
class Probe {
 public:
  Probe(int32_t threads, BenchTimes& times) : threads_(threads), times_(times) { refresh(); }

  // Ahead of a piece of work, where something else was done since the last one.
  void refresh() {
    before_ = after_;
    check(mllm_measure_machine(threads_, &after_));
    times_.read_bandwidth.push_back(after_.read_bandwidth);
    times_.int8_macs.push_back(after_.int8_macs);
    times_.matrix_macs.push_back(after_.matrix_macs);
  }

  // Behind a piece of work: once more, and the mean of its two sides.
  double macs_around() {
    refresh();
    const auto peak = [](const mllm_machine_speed& m) { return std::max(m.int8_macs, m.matrix_macs); };
    return (peak(before_) + peak(after_)) / 2;
  }
  double bandwidth_around() {
    refresh();
    return (before_.read_bandwidth + after_.read_bandwidth) / 2;
  }

 private:
  int32_t threads_;
  BenchTimes& times_;
  mllm_machine_speed before_{}, after_{};
};

// Between two probes of the machine, a third of a second each: as long as 16 steps of a small model.
constexpr int32_t kDecodePiece = 16;

DecodeTime decode_after(Engine& engine, int32_t context, int32_t steps, Probe& probe) {
  DecodeTime time;
  probe.refresh();
  for (int32_t piece = 0; piece < steps; piece += kDecodePiece) {
    engine.warm(context + piece);
    double seconds = 0;
    for (int32_t step = piece; step < std::min(piece + kDecodePiece, steps); ++step) {
      time.step_seconds.push_back(engine.seconds_of_feed(context + step, 1));
      seconds += time.step_seconds.back();
    }
    time.readable_bytes += seconds * probe.bandwidth_around();
  }
  return time;
}

// Rounds outermost, so that drift hits all alike.
void speed_step(Engine& engine, const BenchPlan& plan, BenchTimes& times) {
  const int32_t warm_up = std::min(32, engine.info().max_seq_len - 4);
  engine.feed(0, warm_up);
  for (int32_t step = 0; step < 4; ++step) engine.feed(warm_up + step, 1);
  std::vector<size_t> by_depth(plan.contexts.size());
  std::iota(by_depth.begin(), by_depth.end(), size_t{0});
  std::ranges::sort(by_depth, {}, [&](size_t i) { return plan.contexts[i]; });
  times.prefill.resize(plan.prefill.size());
  times.decode.resize(plan.contexts.size());
  Probe probe(engine.info().threads, times);
  for (int32_t round = 0; round < plan.repeat; ++round) {
    for (size_t i = 0; i < plan.prefill.size(); ++i) {
      engine.warm(0);
      const double seconds = engine.seconds_of_feed(0, plan.prefill[i]);
      times.prefill[i].push_back({seconds, probe.macs_around()});
    }
    engine.warm(0);
    times.first_token.push_back(engine.seconds_of_feed(0, 1));
    int32_t position = 1;
    for (const size_t i : by_depth) {
      if (plan.contexts[i] > position) engine.feed(position, plan.contexts[i] - position);
      position = plan.contexts[i];
      times.decode[i].push_back(decode_after(engine, position, plan.decode_steps, probe));
      engine.rewind(position);
    }
  }
}

}  // namespace

BenchFacts facts_of(const Arguments& arguments) {
  BenchFacts facts;
  facts.path = arguments.positional();
  facts.exact = arguments.has("--exact");
  const std::string manifest = [&] {
    // In a process of its own the pool's threads would have to be gone before the next fork: they are, once
    // it is closed.
    const Model model = open_model(arguments);
    facts.info = info_of(model);
    note_memory(model);
    return std::string(mllm_model_manifest(model.get()));
  }();
  facts.manifest = Json::parse(manifest, facts.path + "/manifest.json");
  mllm_graph* raw = nullptr;
  const std::string decode = facts.path + "/" + facts.manifest.at("graphs").at("decode").string();
  check(mllm_graph_open(decode.c_str(), 1, &raw));
  const Graph graph(raw);
  const char* json = nullptr;
  check(mllm_graph_describe(raw, &json));
  facts.parameters = Json::parse(json, decode).at("parameters");
  return facts;
}

BenchTimes measure(const Arguments& arguments, const BenchPlan& plan) {
  BenchTimes times;
  const std::vector<double> memory = in_child([&] { return memory_step(arguments, plan); });
  times.memory_before = memory.at(0);
  times.memory_opened = memory.at(1);
  times.memory_peak = memory.at(2);
  // The steps before have read every file, so the page cache is as warm as it gets.
  for (int32_t i = 0; i < plan.repeat; ++i)
    times.load.push_back(in_child([&] { return load_step(arguments); }).at(0));
  Engine engine(arguments);
  speed_step(engine, plan, times);
  return times;
}

std::string profile(const Arguments& arguments, const BenchPlan& plan) {
  Engine engine(arguments);
  engine.feed(0, plan.memory_prompt);
  engine.rewind(0);
  check(mllm_session_set_profiling(engine.session(), 1));
  engine.feed(0, plan.memory_prompt);
  for (int32_t step = 0; step < plan.memory_steps; ++step) engine.feed(plan.memory_prompt + step, 1);
  const char* json = nullptr;
  check(mllm_session_profile(engine.session(), &json));
  return json;
}

}  // namespace mllm::cli
