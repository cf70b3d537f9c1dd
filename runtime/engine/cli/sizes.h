// Sizes to be read.
#ifndef MINDIR_LLM_CLI_SIZES_H_
#define MINDIR_LLM_CLI_SIZES_H_

#include <string>

namespace mllm::cli {

// 1536 → "1.5 kB".
std::string size_text(double bytes);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_SIZES_H_
