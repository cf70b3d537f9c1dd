// Ctrl-C.
#ifndef MINDIR_LLM_CLI_INTERRUPT_H_
#define MINDIR_LLM_CLI_INTERRUPT_H_

#include "include/mindir_llm.h"

namespace mllm::cli {

// From now on Ctrl-C ends the process with exit code 130, without a word, unless something below says
// otherwise. Where the process was started to ignore it, it still does.
void handle_interrupts();

// While one exists, the first Ctrl-C ends the generator's answer and nothing else; a second one ends the
// process.
class AnswerGuard {
 public:
  explicit AnswerGuard(mllm_generator* generator);
  ~AnswerGuard();
  AnswerGuard(const AnswerGuard&) = delete;
  AnswerGuard& operator=(const AnswerGuard&) = delete;
};

// While one exists, Ctrl-C gives up the line that is being typed.
class LineGuard {
 public:
  LineGuard();
  ~LineGuard();
  LineGuard(const LineGuard&) = delete;
  LineGuard& operator=(const LineGuard&) = delete;
  // Until there is something to read (true) or Ctrl-C was pressed, since this exists (false).
  bool wait_for_input() const;
};

// While one exists, Ctrl-C between a line and its answer, or the other way round, does nothing.
class ConversationGuard {
 public:
  ConversationGuard();
  ~ConversationGuard();
  ConversationGuard(const ConversationGuard&) = delete;
  ConversationGuard& operator=(const ConversationGuard&) = delete;
};

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_INTERRUPT_H_
