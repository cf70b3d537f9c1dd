// `mindir-llm chat`: lines in, commands, answers out as they come.
#include "base/json.h"
#include "cli/commands.h"
#include "cli/engine_options.h"
#include "cli/failure.h"
#include "cli/files.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/sampling_options.h"
#include "cli/statistics.h"
#include "cli/strings.h"
#include "cli/terminal.h"

namespace mllm::cli {
namespace {

constexpr std::string_view kHelp =
    "/help            this list\n"
    "/reset           start anew; the system message stays\n"
    "/system TEXT     change the system message; without TEXT there is none\n"
    "/save FILE       write the conversation to a file\n"
    "/load FILE       go on with a saved conversation\n"
    "/exit            leave (so does Ctrl-D)\n"
    "A line that ends with \\ goes on in the next one; \"\"\" begins and ends a text of several lines.\n"
    "Ctrl-C stops an answer. A blank in front of / sends the line as text.\n";

constexpr std::string_view kPolicies[] = {"stop", "drop"};
constexpr Option kOwn[] = {
    {.name = "--system", .metavar = "TEXT", .help = "system message", .kind = Kind::Text},
    {.name = "--load",
     .metavar = "FILE",
     .help = "go on with a conversation that /save wrote",
     .kind = Kind::Text},
    {.name = "--chat-template",
     .metavar = "FILE",
     .help = "chat template to use instead of the bundle's own",
     .kind = Kind::Text},
    {.name = "--context-full",
     .metavar = "{stop,drop}",
     .help = "when the context is full: say so, or drop the oldest turns (default: stop)",
     .kind = Kind::Text,
     .fallback = "stop",
     .choices = kPolicies},
    {.name = "--stats", .metavar = "", .help = "print the speed after each answer"},
    kThreadsOption,
    kCoresOption,
    kPriorityOption,
    kMaxMemoryOption,
    kExactOption,
};
const OptionGroup kGroups[] = {{"options", kOwn}, {"sampling", kChatSampling}};

bool has_template(const Model& model) {
  const Json manifest = Json::parse(mllm_model_manifest(model.get()), "manifest.json");
  const Json* tokenizer = manifest.find("tokenizer");
  return tokenizer && !tokenizer->is_null() && !tokenizer->at("chat_template").is_null();
}

// One conversation at the terminal.
class Talk {
 public:
  Talk(const Arguments& arguments, Generator generator, Chat chat, ChosenSampling& sampling)
      : with_stats_(arguments.has("--stats")),
        generator_(std::move(generator)),
        chat_(std::move(chat)),
        sampling_(sampling) {}

  // Until the user leaves. At a terminal errors do not end the conversation.
  void run() {
    std::optional<ConversationGuard> guard;
    if (terminal_.is_interactive()) guard.emplace();
    for (bool goes_on = true; goes_on;) {
      try {
        const auto text = terminal_.turn();
        if (!text) return;
        if (stripped(*text).empty()) continue;
        if (text->starts_with('/')) {
          goes_on = command(stripped(*text));
        } else {
          answer(stripped(*text, " "));
        }
      } catch (const std::exception& error) {
        if (!terminal_.is_interactive()) throw;
        note("error: " + std::string(error.what()));
      }
    }
  }

  void load(const std::string& path) {
    const std::string text = as_text(read_file(path), path, true);
    if (mllm_chat_load(chat_.get(), text.data(), text.size()) != MLLM_OK)
      throw Failure(path + ": not a saved conversation: " + mllm_last_error());
    dropped_ = 0;
  }

 private:
  void answer(std::string_view text) {
    mllm_generation done{};
    done.struct_size = sizeof done;
    Output output;
    output.attach(sampling_.options);
    {
      const AnswerGuard guard(generator_.get());
      check(mllm_chat_ask(chat_.get(), text.data(), text.size(), &sampling_.options, &done));
    }
    output.end();
    if (done.dropped_messages > dropped_)
      note("(the oldest turns no longer fit the context and were dropped)");
    dropped_ = done.dropped_messages;
    if (done.is_full)
      note("(the context is full: /reset starts anew, --context-full drop forgets the oldest turns)");
    if (with_stats_ && done.finish_reason != MLLM_FINISH_CANCELLED) note(speed_line(done));
  }

  // Whether to go on.
  bool command(std::string_view text) {
    const size_t blank = text.find(' ');
    const std::string name(text.substr(0, blank));
    const std::string argument(blank == text.npos ? "" : stripped(text.substr(blank)));
    if ((name == "/save" || name == "/load") && argument.empty()) throw Failure(name + " needs a file name");
    if (name == "/exit") return false;
    if (name == "/help") {
      note(kHelp);
    } else if (name == "/reset") {
      check(mllm_chat_reset(chat_.get()));
      dropped_ = 0;
    } else if (name == "/system") {
      check(mllm_chat_set_system(chat_.get(), argument.c_str()));
    } else if (name == "/save") {
      write_file(argument, messages() + "\n");
      note("(" + count() + " messages written to " + argument + ")");
    } else if (name == "/load") {
      load(argument);
      note("(" + count() + " messages read from " + argument + ")");
    } else {
      throw Failure("unknown command " + name + "; /help lists them");
    }
    return true;
  }

  std::string messages() const {
    const char* json = nullptr;
    size_t size = 0;
    check(mllm_chat_messages(chat_.get(), &json, &size));
    return {json, size};
  }

  std::string count() const { return std::to_string(Json::parse(messages(), "messages").array().size()); }

  bool with_stats_;
  Generator generator_;
  Chat chat_;  // closed before the generator
  ChosenSampling& sampling_;
  Terminal terminal_;
  int32_t dropped_ = 0;
};

int run(const Arguments& arguments) {
  ChosenSampling sampling(arguments);
  std::optional<std::string> chat_template;
  if (const auto file = arguments.text("--chat-template"))
    chat_template = as_text(read_file(*file), *file, true);
  const Model model = open_model(arguments);
  note_memory(model);
  if (!chat_template && !has_template(model)) {
    throw Failure(arguments.positional() + ": has no chat template; give one with --chat-template FILE");
  }
  sampling.prepare(arguments.positional());
  const std::string system = arguments.text("--system").value_or("");
  mllm_chat_options options{};
  options.struct_size = sizeof options;
  options.context_full = *arguments.text("--context-full") == "drop" ? MLLM_CONTEXT_DROP : MLLM_CONTEXT_STOP;
  options.system = system.c_str();
  options.chat_template = chat_template ? chat_template->c_str() : nullptr;
  mllm_generator* generator = nullptr;
  check(mllm_generator_create(model.get(), &generator));
  Generator generator_owner(generator);
  mllm_chat* chat = nullptr;
  check(mllm_chat_create(generator, &options, &chat));
  Talk talk(arguments, std::move(generator_owner), Chat(chat), sampling);
  if (const auto file = arguments.text("--load")) talk.load(*file);
  talk.run();
  return kDone;
}

}  // namespace

const Command kChat = {
    .name = "chat",
    .summary = "talk with a bundle in the terminal",
    .description =
        "Talk with a bundle through its chat template. /help lists what can be done in it. Earlier "
        "turns stay in the KV cache. With a pipe as input each line is one turn.",
    .examples =
        "examples:\n"
        "  mindir-llm chat bundle\n"
        "  mindir-llm chat bundle --system \"Answer in one sentence.\" --temperature 0.7 --stats\n"
        "  mindir-llm chat bundle --context-full drop\n"
        "  mindir-llm chat bundle --json-schema answer.schema.json\n"
        "  printf 'Hello!\\nWhat did I say?\\n' | mindir-llm chat bundle --temperature 0\n",
    .positional = "BUNDLE",
    .positional_help = "directory that `mindir-llm export` wrote",
    .groups = kGroups,
    .run = run,
};

}  // namespace mllm::cli
