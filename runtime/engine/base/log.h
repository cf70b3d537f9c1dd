// Messages for the program that embeds the engine, which never prints by itself.
#ifndef MINDIR_LLM_BASE_LOG_H_
#define MINDIR_LLM_BASE_LOG_H_

#include <string>

#include "include/mindir_llm.h"

namespace mllm {

void set_log(mllm_log_callback callback, void* user);  // null: nobody listens
bool has_log();                                        // whether a message is worth composing
void log(mllm_log_level level, const std::string& message);

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_LOG_H_
