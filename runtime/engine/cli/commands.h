// The commands.
#ifndef MINDIR_LLM_CLI_COMMANDS_H_
#define MINDIR_LLM_CLI_COMMANDS_H_

#include "cli/options.h"

namespace mllm::cli {

extern const Command kRun;
extern const Command kBench;
extern const Command kChat;
extern const Command kInspect;

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_COMMANDS_H_
