// How fast a generation was, in words.
#ifndef MINDIR_LLM_CLI_STATISTICS_H_
#define MINDIR_LLM_CLI_STATISTICS_H_

#include <string>

#include "include/mindir_llm.h"

namespace mllm::cli {

// "prompt 5 tokens and 3 from the cache, 12.3 tokens/s; decode 9 tokens, 4.5 tokens/s"
std::string speed_line(const mllm_generation& generation);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_STATISTICS_H_
