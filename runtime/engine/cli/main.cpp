// The `mindir-llm` executable: finds the command, and turns its errors into one line and an exit code.
//
// Exit codes: 0 done, 2 a mistake or an input that cannot be used, 130 Ctrl-C, 141 the reader of the output
// has gone.
#include <signal.h>

#include <algorithm>
#include <exception>
#include <string>

#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/files.h"
#include "cli/interrupt.h"

namespace mllm::cli {
namespace {

constexpr const Command* kCommands[] = {&kBench, &kChat, &kInspect, &kRun};

std::string list_of_commands() {
  std::string out;
  for (const Command* command : kCommands) {
    out += (out.empty() ? "'" : ", '") + std::string(command->name) + "'";
  }
  return out;
}

std::string general_help() {
  std::string out =
      "usage: mindir-llm [-h] [--version] COMMAND ...\n\n"
      "Run MindIR bundles of language models. Exporting and verifying them is done by the\n"
      "Python package: pip install 'mindir-llm[export]'.\n\n"
      "options:\n"
      "  -h, --help            show this help message and exit\n"
      "  --version             show the version and exit\n\n"
      "commands:\n";
  for (const Command* command : kCommands) {
    const std::string name = "  " + std::string(command->name);
    out += name + std::string(24 - name.size(), ' ') + std::string(command->summary) + "\n";
  }
  return out + "\n`mindir-llm COMMAND --help` shows what a command takes.\n";
}

int run(int count, char** words) {
  const std::span<char* const> all(words, static_cast<size_t>(count));
  if (count < 2) throw Failure("the following arguments are required: COMMAND (see mindir-llm --help)");
  const std::string_view name = all[1];
  if (name == "-h" || name == "--help") {
    write_out(general_help());
    return kDone;
  }
  if (name == "--version") {
    write_out("mindir-llm " + std::string(mllm_version()) + "\n");
    return kDone;
  }
  const auto found = std::ranges::find(kCommands, name, [](const Command* one) { return one->name; });
  if (found == std::end(kCommands)) {
    throw Failure("argument COMMAND: invalid choice: '" + std::string(name) + "' (choose from " +
                  list_of_commands() + ") (see mindir-llm --help)");
  }
  const Arguments arguments = Arguments::parse(**found, all.subspan(2));
  if (arguments.wants_help()) {
    write_out(help_text(**found));
    return kDone;
  }
  return (*found)->run(arguments);
}

int fail(std::string message) {
  std::ranges::replace(message, '\n', ' ');
  write_err("mindir-llm: error: " + message + "\n");
  return kUserError;
}

}  // namespace
}  // namespace mllm::cli

int main(int count, char** words) {
  using namespace mllm::cli;
  ::signal(SIGPIPE, SIG_IGN);  // a write says so
  handle_interrupts();
  try {
    return mllm::cli::run(count, words);
  } catch (const NoReader&) {
    return kNoReader;
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}
