// Where lines come from. Someone at a terminal gets prompts; with a pipe it is one turn a line.
#ifndef MINDIR_LLM_CLI_TERMINAL_H_
#define MINDIR_LLM_CLI_TERMINAL_H_

#include <optional>
#include <string>
#include <string_view>

namespace mllm::cli {

class LineGuard;

class Terminal {
 public:
  Terminal();

  bool is_interactive() const { return is_interactive_; }
  // What the user says next, several lines put together; nothing at the end of the input. Throws Failure for
  // what is no UTF-8.
  std::optional<std::string> turn();

 private:
  std::optional<std::string> line(std::string_view prompt);
  // False where Ctrl-C ended it. guard: null where nobody types.
  bool read_line(std::optional<std::string>& out, const LineGuard* guard);

  bool is_interactive_;
  std::string buffered_;  // read, but not yet part of a line
  bool has_ended_ = false;
};

// What is no part of the conversation goes to stderr.
void note(std::string_view text);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_TERMINAL_H_
