// A measurement as JSON, in the form of the Python command, and as text.
#ifndef MINDIR_LLM_CLI_BENCH_REPORT_H_
#define MINDIR_LLM_CLI_BENCH_REPORT_H_

#include <string>
#include <vector>

#include "cli/bench_measure.h"

namespace mllm::cli {

std::string bench_json(const BenchFacts& facts, const BenchPlan& plan, const BenchTimes& times,
                       const std::vector<std::string>& notes);
// The tables of a report that bench_json wrote.
std::string bench_text(const Json& report);

// Where time goes, per operator: linear operators per role, with the speed at which their weights are read.
std::string profile_text(const Json& profile, const BenchFacts& facts, const BenchPlan& plan);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_BENCH_REPORT_H_
