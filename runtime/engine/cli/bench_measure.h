// The measurements, and what a report is made from.
#ifndef MINDIR_LLM_CLI_BENCH_MEASURE_H_
#define MINDIR_LLM_CLI_BENCH_MEASURE_H_

#include <string>
#include <vector>

#include "base/json.h"
#include "cli/bench_costs.h"
#include "cli/bench_plan.h"
#include "cli/options.h"
#include "include/mindir_llm.h"

namespace mllm::cli {

// The bundle, as far as it matters here.
struct BenchFacts {
  std::string path;
  bool exact = false;
  mllm_model_info info{};
  Json manifest;
  Json parameters;  // of the decode graph
};

// A prompt: how long it took, and multiply-accumulates per second that the machine could do meanwhile.
struct PrefillTime {
  double seconds = 0;
  double peak_macs = 0;
};

// Decode steps: how long each took, and how many bytes the machine could have read meanwhile.
struct DecodeTime {
  std::vector<double> step_seconds;
  double readable_bytes = 0;
};

// Repetitions of each number.
struct BenchTimes {
  std::vector<std::vector<PrefillTime>> prefill;               // by prompt length
  std::vector<std::vector<DecodeTime>> decode;                 // by context
  std::vector<double> first_token;                             // seconds
  std::vector<double> load;                                    // seconds, each in a fresh process
  std::vector<double> read_bandwidth, int8_macs, matrix_macs;  // of the machine, between the pieces of work
  double memory_before = 0, memory_opened = 0,
         memory_peak = 0;  // resident bytes of a fresh process; 0: not known
};

BenchFacts facts_of(const Arguments& arguments);
BenchTimes measure(const Arguments& arguments, const BenchPlan& plan);
// The engine's own account of one prompt and some decode steps (the memory step's), as JSON.
std::string profile(const Arguments& arguments, const BenchPlan& plan);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_BENCH_MEASURE_H_
