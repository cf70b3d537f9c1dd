// Options of the commands: each is declared once, with its help, default and range; parsing and help follow
// from that.
#ifndef MINDIR_LLM_CLI_OPTIONS_H_
#define MINDIR_LLM_CLI_OPTIONS_H_

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mllm::cli {

enum class Kind { Flag, Text, Integer, Number, IdNumber };

struct Option {
  std::string_view name;     // "--top-p"
  std::string_view metavar;  // "" for a flag
  std::string_view help;
  Kind kind = Kind::Flag;
  std::string_view fallback = {};  // its default as the user would write it; "": none
  bool shows_fallback = false;     // in the help
  bool repeats = false;            // may be given several times
  std::string_view letter = {};    // "-p"
  // Numbers: the range, and the same in words, as errors show it.
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool above_low = false;
  bool takes_none = false;  // "none" is allowed
  std::string_view range = {};
  std::string_view shown_name = {};                // how an error about the range calls it; "": the name
  std::span<const std::string_view> choices = {};  // of a text
};

struct OptionGroup {
  std::string_view title;  // "options"
  std::span<const Option> options;
};

class Arguments;

struct Command {
  std::string_view name;
  std::string_view summary;  // for the list of commands
  std::string_view description;
  std::string_view examples;
  std::string_view positional;  // "BUNDLE"
  std::string_view positional_help;
  std::span<const OptionGroup> groups;
  std::span<const std::string_view> one_of = {};  // exactly one of these options is wanted
  // Options that the Python command of the same name has and this one has not, and what to do instead.
  std::span<const std::string_view> python_only = {};
  std::string_view without_python = {};
  int (*run)(const Arguments&);
};

// What the user gave, checked against kinds and ranges.
class Arguments {
 public:
  // Throws Failure. `words`: what follows the command's name.
  static Arguments parse(const Command& command, std::span<char* const> words);

  bool wants_help() const { return wants_help_; }
  const std::string& positional() const { return positional_; }
  bool has(std::string_view name) const { return given_.contains(name); }
  // The last one given, else the default; nothing where there is neither, or "none".
  std::optional<std::string> text(std::string_view name) const;
  std::optional<int64_t> integer(std::string_view name) const;
  std::optional<uint64_t> unsigned_integer(std::string_view name) const;
  std::optional<double> number(std::string_view name) const;
  std::vector<std::string> texts(std::string_view name) const;  // all that were given

 private:
  const Option& option(std::string_view name) const;

  const Command* command_ = nullptr;
  bool wants_help_ = false;
  std::string positional_;
  std::map<std::string, std::vector<std::string>, std::less<>> given_;
};

// `mindir-llm COMMAND --help`.
std::string help_text(const Command& command);

// Wrapped at the terminal's width, `first` columns already taken.
std::string wrapped(std::string_view text, size_t indent, size_t first);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_OPTIONS_H_
