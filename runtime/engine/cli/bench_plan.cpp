#include "cli/bench_plan.h"

#include <algorithm>

#include "cli/failure.h"

namespace mllm::cli {

BenchPlan full_plan() {
  return {{32, 128, 512, 1536}, {16, 512, 1024, 1900}, 32, 5, 512, 64};
}

BenchPlan quick_plan() {
  return {{32, 128}, {16, 256}, 8, 2, 128, 16};
}

void fit(BenchPlan& plan, int32_t max_seq_len, std::vector<std::string>& notes) {
  const std::string limit = std::to_string(max_seq_len);
  const auto leave_out = [&](std::vector<int32_t>& lengths, int32_t more, const char* what) {
    for (const int32_t length : lengths) {
      if (length + more <= max_seq_len) continue;
      notes.push_back(std::string(what) + " " + std::to_string(length) +
                      ": left out, it does not fit max_seq_len " + limit);
    }
    std::erase_if(lengths, [&](int32_t length) { return length + more > max_seq_len; });
  };
  leave_out(plan.prefill, 0, "prefill of");
  leave_out(plan.contexts, plan.decode_steps, "decode at context");
  if (plan.prefill.empty() || plan.contexts.empty())
    throw Failure("max_seq_len of the bundle is " + limit + ": too little to measure");
  const int32_t steps = std::min(plan.memory_steps, max_seq_len - 1);
  const int32_t prompt = std::min(plan.memory_prompt, max_seq_len - steps);
  if (steps != plan.memory_steps || prompt != plan.memory_prompt) {
    notes.push_back("peak memory: after " + std::to_string(prompt) + " prompt tokens and " +
                    std::to_string(steps) + " decode steps");
  }
  plan.memory_steps = steps;
  plan.memory_prompt = prompt;
}

}  // namespace mllm::cli
