// What ends a command: a message for the user, or a reader of the output that has gone.
#ifndef MINDIR_LLM_CLI_FAILURE_H_
#define MINDIR_LLM_CLI_FAILURE_H_

#include <stdexcept>
#include <string>

#include "include/mindir_llm.h"

namespace mllm::cli {

inline constexpr int kDone = 0;
inline constexpr int kUserError = 2;
inline constexpr int kInterrupted = 130;
inline constexpr int kNoReader = 141;

// One line for the user; the command's exit code is 2.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Whoever read the output has gone; there is nobody to tell.
struct NoReader {};

// The engine's complaint as a Failure.
inline void check(mllm_status status) {
  if (status != MLLM_OK) throw Failure(mllm_last_error());
}

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_FAILURE_H_
