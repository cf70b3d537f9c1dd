// Work in a process of its own, because peak memory and load time mean nothing in one that has done other
// work.
#ifndef MINDIR_LLM_CLI_CHILD_H_
#define MINDIR_LLM_CLI_CHILD_H_

#include <functional>
#include <vector>

namespace mllm::cli {

// The numbers that `work` returns. Throws Failure with the message of what it threw. This process must have
// one thread only, and no model open.
std::vector<double> in_child(const std::function<std::vector<double>()>& work);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_CHILD_H_
