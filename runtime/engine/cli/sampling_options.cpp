#include "cli/sampling_options.h"

#include <array>

#include "cli/failure.h"
#include "cli/files.h"
#include "cli/numbers.h"

namespace mllm::cli {
namespace {

// As runtime/sampling.py declares them; a test compares the two.
constexpr std::array<Option, 18> table(std::string_view max_tokens) {
  return {{
      {.name = "--temperature",
       .metavar = "X",
       .help = "0 always takes the most probable token; higher is more random",
       .kind = Kind::Number,
       .fallback = "1.0",
       .shows_fallback = true,
       .low = 0,
       .range = "a number in [0, ∞)",
       .shown_name = "temperature"},
      {.name = "--top-k",
       .metavar = "N",
       .help = "choose among the K most probable tokens; 0 or -1: among all",
       .kind = Kind::Integer,
       .fallback = "0",
       .shows_fallback = true,
       .low = -1,
       .high = 2147483647,
       .range = "an integer in [-1, 2147483647]",
       .shown_name = "top_k"},
      {.name = "--top-p",
       .metavar = "X",
       .help = "choose among the most probable tokens that together reach this probability",
       .kind = Kind::Number,
       .fallback = "1.0",
       .shows_fallback = true,
       .low = 0,
       .high = 1,
       .above_low = true,
       .range = "a number in (0, 1]",
       .shown_name = "top_p"},
      {.name = "--min-p",
       .metavar = "X",
       .help = "leave out tokens less probable than this times the most probable one",
       .kind = Kind::Number,
       .fallback = "0.0",
       .shows_fallback = true,
       .low = 0,
       .high = 1,
       .range = "a number in [0, 1]",
       .shown_name = "min_p"},
      {.name = "--repetition-penalty",
       .metavar = "X",
       .help = "above 1: make tokens of the prompt and of the text so far less probable",
       .kind = Kind::Number,
       .fallback = "1.0",
       .shows_fallback = true,
       .low = 0,
       .above_low = true,
       .range = "a number in (0, ∞)",
       .shown_name = "repetition_penalty"},
      {.name = "--presence-penalty",
       .metavar = "X",
       .help = "subtracted from the logit of every token generated so far",
       .kind = Kind::Number,
       .fallback = "0.0",
       .shows_fallback = true,
       .low = -2,
       .high = 2,
       .range = "a number in [-2, 2]",
       .shown_name = "presence_penalty"},
      {.name = "--frequency-penalty",
       .metavar = "X",
       .help = "subtracted from a token's logit for each time it was generated",
       .kind = Kind::Number,
       .fallback = "0.0",
       .shows_fallback = true,
       .low = -2,
       .high = 2,
       .range = "a number in [-2, 2]",
       .shown_name = "frequency_penalty"},
      {.name = "--seed",
       .metavar = "N",
       .help = "same seed, same text; without one every run differs",
       .kind = Kind::Integer,
       .shows_fallback = true,
       .low = 0,
       .high = 0x1p64,
       .takes_none = true,
       .range = "an integer in [0, 18446744073709551615], or None",
       .shown_name = "seed"},
      {.name = "--max-tokens",
       .metavar = "N",
       .help = "generate at most N tokens; none: until the context is full",
       .kind = Kind::Integer,
       .fallback = max_tokens,
       .shows_fallback = true,
       .low = 1,
       .high = 2147483647,
       .takes_none = true,
       .range = "an integer in [1, 2147483647], or None",
       .shown_name = "max_tokens"},
      {.name = "--min-tokens",
       .metavar = "N",
       .help = "do not stop before N tokens",
       .kind = Kind::Integer,
       .fallback = "0",
       .shows_fallback = true,
       .low = 0,
       .high = 2147483647,
       .range = "an integer in [0, 2147483647]",
       .shown_name = "min_tokens"},
      {.name = "--stop",
       .metavar = "TEXT",
       .help = "end before this text; may be given several times",
       .kind = Kind::Text,
       .shows_fallback = true,
       .repeats = true,
       .range = "a non-empty string",
       .shown_name = "stop"},
      {.name = "--stop-token-id",
       .metavar = "N",
       .help = "end at this token id; may be given several times",
       .kind = Kind::Integer,
       .shows_fallback = true,
       .repeats = true,
       .low = 0,
       .high = 2147483647,
       .range = "an integer in [0, 2147483647]",
       .shown_name = "stop_token_ids"},
      {.name = "--logit-bias",
       .metavar = "ID=X",
       .help =
           "added to the logit of a token id: {id: bias} in Python, ID=BIAS here; may be given several times",
       .kind = Kind::IdNumber,
       .shows_fallback = true,
       .repeats = true,
       .low = -100,
       .high = 100,
       .range = "{token id: a number in [-100, 100]}",
       .shown_name = "logit_bias"},
      {.name = "--bad-word",
       .metavar = "TEXT",
       .help = "never write this text; may be given several times",
       .kind = Kind::Text,
       .shows_fallback = true,
       .repeats = true,
       .range = "a non-empty string",
       .shown_name = "bad_words"},
      {.name = "--ignore-eos", .metavar = "", .help = "do not end at the model's own end tokens"},
      {.name = "--json-schema",
       .metavar = "FILE",
       .help = "write a JSON document that is valid under this schema",
       .kind = Kind::Text,
       .shows_fallback = true},
      {.name = "--grammar",
       .metavar = "FILE",
       .help = "write a text that this grammar matches, in GBNF, the notation of llama.cpp",
       .kind = Kind::Text,
       .shows_fallback = true},
      {.name = "--json-object", .metavar = "", .help = "write a JSON object"},
  }};
}

constexpr auto kForRun = table("256");
constexpr auto kForChat = table("1024");

std::vector<const char*> pointers(const std::vector<std::string>& texts) {
  std::vector<const char*> out;
  for (const std::string& text : texts) out.push_back(text.c_str());
  return out;
}

struct Structure {
  std::string_view option;
  const char* name;  // in errors
  mllm_grammar_kind kind;
};
constexpr Structure kStructures[] = {{"--grammar", "grammar", MLLM_GRAMMAR_GBNF},
                                     {"--json-schema", "json_schema", MLLM_GRAMMAR_JSON_SCHEMA},
                                     {"--json-object", "json_object", MLLM_GRAMMAR_JSON_OBJECT}};

float number(const Arguments& arguments, std::string_view name) {
  return static_cast<float>(*arguments.number(name));
}

int32_t integer(const Arguments& arguments, std::string_view name) {
  return static_cast<int32_t>(arguments.integer(name).value_or(0));
}

}  // namespace

const std::span<const Option> kRunSampling = kForRun;
const std::span<const Option> kChatSampling = kForChat;

ChosenSampling::ChosenSampling(const Arguments& arguments)
    : stop_(arguments.texts("--stop")), bad_words_(arguments.texts("--bad-word")) {
  mllm_sampling_params_init(&params_);
  params_.temperature = number(arguments, "--temperature");
  params_.top_k = integer(arguments, "--top-k");
  params_.top_p = number(arguments, "--top-p");
  params_.min_p = number(arguments, "--min-p");
  params_.repetition_penalty = number(arguments, "--repetition-penalty");
  params_.presence_penalty = number(arguments, "--presence-penalty");
  params_.frequency_penalty = number(arguments, "--frequency-penalty");
  const auto seed = arguments.unsigned_integer("--seed");
  params_.seed = seed.value_or(0);

  stop_texts_ = pointers(stop_);
  bad_word_texts_ = pointers(bad_words_);
  for (const std::string& id : arguments.texts("--stop-token-id"))
    stop_tokens_.push_back(static_cast<int32_t>(*parse_integer(id)));
  for (const std::string& pair : arguments.texts("--logit-bias")) {
    const size_t at = pair.find('=');
    bias_.push_back({static_cast<int32_t>(*parse_integer(pair.substr(0, at))),
                     static_cast<float>(*parse_number(pair.substr(at + 1)))});
  }

  options.struct_size = sizeof options;
  options.max_tokens = integer(arguments, "--max-tokens");
  options.min_tokens = integer(arguments, "--min-tokens");
  if (options.max_tokens && options.min_tokens > options.max_tokens) {
    throw Failure("min_tokens is " + std::to_string(options.min_tokens) + ", above max_tokens (" +
                  std::to_string(options.max_tokens) + ")");
  }
  read_structure(arguments);
  options.ignore_eos = arguments.has("--ignore-eos");
  options.random_seed = !seed;
  options.sampling = &params_;
  options.stop = stop_texts_.data();
  options.n_stop = stop_texts_.size();
  options.stop_tokens = stop_tokens_.data();
  options.n_stop_tokens = stop_tokens_.size();
  options.bad_words = bad_word_texts_.data();
  options.n_bad_words = bad_word_texts_.size();
  options.logit_bias = bias_.data();
  options.n_logit_bias = bias_.size();
}

void ChosenSampling::read_structure(const Arguments& arguments) {
  const char* found = nullptr;
  for (const Structure& one : kStructures) {
    if (!arguments.has(one.option)) continue;
    if (found) throw Failure(std::string(found) + " and " + one.name + " are both given; choose one");
    found = one.name;
    kind_ = one.kind;
    const auto file = arguments.text(one.option);
    source_ = file ? as_text(read_file(*file), *file, true) : "";
    has_structure_ = true;
  }
}

void ChosenSampling::prepare(const std::string& bundle) {
  if (!has_structure_) return;
  mllm_tokenizer* tokenizer = nullptr;
  check(mllm_tokenizer_open(bundle.c_str(), &tokenizer));
  const Tokenizer owner(tokenizer);
  mllm_grammar* grammar = nullptr;
  check(mllm_grammar_compile(tokenizer, kind_, source_.data(), source_.size(), &grammar));
  grammar_.reset(grammar);
  options.grammar = grammar;
}

}  // namespace mllm::cli
