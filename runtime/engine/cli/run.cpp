// `mindir-llm run`: text streams to stdout, the speed goes to stderr.
#include <algorithm>
#include <cstddef>

#include "cli/commands.h"
#include "cli/engine_options.h"
#include "cli/failure.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/sampling_options.h"
#include "cli/statistics.h"
#include "text/utf8.h"

namespace mllm::cli {
namespace {

constexpr Option kOwn[] = {
    {.name = "--prompt",
     .metavar = "TEXT",
     .help = "text to continue; - reads it from stdin",
     .kind = Kind::Text,
     .letter = "-p"},
    {.name = "--prompt-file",
     .metavar = "FILE",
     .help = "file with the text to continue (UTF-8)",
     .kind = Kind::Text},
    {.name = "--chat", .metavar = "", .help = "ask it as a user, through the chat template"},
    {.name = "--echo", .metavar = "", .help = "print the prompt before its continuation"},
    {.name = "--quiet", .metavar = "", .help = "do not print the speed"},
    kThreadsOption,
    kCoresOption,
    kPriorityOption,
    kMaxMemoryOption,
    kExactOption,
};
const OptionGroup kGroups[] = {{"options", kOwn}, {"sampling", kRunSampling}};
constexpr std::string_view kPrompts[] = {"--prompt", "--prompt-file"};

std::string prompt_of(const Arguments& arguments) {
  if (const auto file = arguments.text("--prompt-file")) return as_text(read_file(*file), *file, false);
  std::string text = *arguments.text("--prompt");
  if (text == "-") return as_text(read_stdin(), "stdin", false);
  if (const size_t valid = text::valid_prefix(text); valid < text.size()) {
    const auto characters = std::count_if(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(valid),
                                          [](char c) { return (c & 0xc0) != 0x80; });
    throw Failure("--prompt is not valid UTF-8 (at character " + std::to_string(characters) +
                  "); check the terminal's encoding");
  }
  return text;
}

int run(const Arguments& arguments) {
  const std::string text = prompt_of(arguments);
  ChosenSampling chosen(arguments);
  const Model model = open_model(arguments);
  if (!arguments.has("--quiet")) note_memory(model);
  chosen.prepare(arguments.positional());
  mllm_generator* raw = nullptr;
  check(mllm_generator_create(model.get(), &raw));
  const Generator generator(raw);

  Output output;
  if (arguments.has("--echo")) output.write(text);
  output.attach(chosen.options);
  mllm_generation done{};
  done.struct_size = sizeof done;
  Chat chat;
  if (arguments.has("--chat")) {
    mllm_chat* raw_chat = nullptr;
    check(mllm_chat_create(generator.get(), nullptr, &raw_chat));
    chat.reset(raw_chat);
    check(mllm_chat_ask(chat.get(), text.data(), text.size(), &chosen.options, &done));
  } else {
    check(mllm_generate_text(generator.get(), text.data(), text.size(), &chosen.options, &done));
  }
  output.end();
  if (!arguments.has("--quiet"))
    write_err(speed_line(done) + "; " + std::to_string(info_of(model).threads) + " threads\n");
  return kDone;
}

}  // namespace

const Command kRun = {
    .name = "run",
    .summary = "generate text with a bundle",
    .description = "Generate text: it streams to stdout, then the speed goes to stderr.",
    .examples =
        "examples:\n"
        "  mindir-llm run bundle -p \"Once upon a time\"\n"
        "  mindir-llm run bundle -p \"Once upon a time\" --temperature 0 --max-tokens 200\n"
        "  mindir-llm run bundle --prompt-file story.txt --top-p 0.9 --seed 7 --stop \"The end\"\n"
        "  echo \"What is MindIR?\" | mindir-llm run bundle -p - --chat\n"
        "  mindir-llm run bundle -p \"Name a city.\" --chat --json-schema city.schema.json\n"
        "  mindir-llm run bundle -p \"Yes or no?\" --grammar answer.gbnf\n",
    .positional = "BUNDLE",
    .positional_help = "directory that `mindir-llm export` wrote",
    .groups = kGroups,
    .one_of = kPrompts,
    .run = run,
};

}  // namespace mllm::cli
