#include "cli/terminal.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cli/failure.h"
#include "cli/files.h"
#include "cli/interrupt.h"
#include "cli/strings.h"

namespace mllm::cli {
namespace {

constexpr std::string_view kQuotes = "\"\"\"";

}  // namespace

Terminal::Terminal() : is_interactive_(::isatty(STDIN_FILENO) == 1) {}

std::optional<std::string> Terminal::turn() {
  std::optional<std::string> next = line("> ");
  if (!next) return std::nullopt;
  std::string out;
  auto append = [&out, is_first = true](std::string_view text) mutable {
    if (!is_first) out += '\n';
    is_first = false;
    out += text;
  };
  if (stripped_left(*next).starts_with(kQuotes)) {
    next = std::string(stripped_left(*next).substr(kQuotes.size()));
    while (next && !stripped_right(*next).ends_with(kQuotes)) {
      append(*next);
      next = line(". ");
    }
    if (next) append(stripped_right(*next).substr(0, stripped_right(*next).size() - kQuotes.size()));
    return std::string(stripped(out, "\n"));
  }
  while (next && next->ends_with('\\')) {
    append(std::string_view(*next).substr(0, next->size() - 1));
    next = line(". ");
  }
  if (next) append(*next);
  return out;
}

std::optional<std::string> Terminal::line(std::string_view prompt) {
  while (true) {
    std::optional<LineGuard> guard;
    if (is_interactive_) {
      guard.emplace();
      write_out(prompt);
    }
    std::optional<std::string> out;
    if (!read_line(out, guard ? &*guard : nullptr)) {  // gives the line up, not the program
      write_out("\n");
      if (prompt != "> ") return std::nullopt;
      note("(Ctrl-D or /exit leaves)");
      continue;
    }
    if (!out && is_interactive_) write_out("\n");
    if (out) as_text(*out, "stdin", true);
    return out;
  }
}

bool Terminal::read_line(std::optional<std::string>& out, const LineGuard* guard) {
  while (true) {
    const size_t end = buffered_.find('\n');
    if (end != buffered_.npos || (has_ended_ && !buffered_.empty())) {
      out = buffered_.substr(0, end);
      buffered_.erase(0, end == buffered_.npos ? end : end + 1);
      if (out->ends_with('\r')) out->pop_back();
      return true;
    }
    if (has_ended_) return true;
    if (guard && !guard->wait_for_input()) {
      buffered_.clear();
      return false;
    }
    char bytes[4096];
    const ssize_t n = ::read(STDIN_FILENO, bytes, sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw Failure(std::string("stdin: ") + std::strerror(errno));
    if (n == 0) has_ended_ = true;
    buffered_.append(bytes, static_cast<size_t>(n));
  }
}

void note(std::string_view text) {
  write_err(std::string(text) + (text.ends_with('\n') ? "" : "\n"));
}

}  // namespace mllm::cli
