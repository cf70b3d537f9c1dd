// What of a bundle is measured, and how often.
#ifndef MINDIR_LLM_CLI_BENCH_PLAN_H_
#define MINDIR_LLM_CLI_BENCH_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

namespace mllm::cli {

struct BenchPlan {
  std::vector<int32_t> prefill;   // prompt lengths
  std::vector<int32_t> contexts;  // tokens in the cache when decoding starts
  int32_t decode_steps = 0;       // per repetition
  int32_t repeat = 0;
  int32_t memory_prompt = 0;  // of the step that peak memory is read after
  int32_t memory_steps = 0;
};

BenchPlan full_plan();
BenchPlan quick_plan();  // a check, not a result

// Leaves out what a cache of max_seq_len rows does not hold, with a line in `notes` for each. Throws Failure
// where nothing is left.
void fit(BenchPlan& plan, int32_t max_seq_len, std::vector<std::string>& notes);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_BENCH_PLAN_H_
