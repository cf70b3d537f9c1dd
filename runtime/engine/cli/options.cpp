#include "cli/options.h"

#include <algorithm>
#include <utility>

#include "base/number_text.h"
#include "cli/failure.h"
#include "cli/numbers.h"

namespace mllm::cli {
namespace {

constexpr std::string_view kProgram = "mindir-llm";
constexpr size_t kWidth = 100;
constexpr size_t kHelpColumn = 24;

std::string quoted(std::string_view text) {
  return "'" + std::string(text) + "'";
}

[[noreturn]] void fail_usage(const Command& command, const std::string& message) {
  throw Failure(message + " (see " + std::string(kProgram) + " " + std::string(command.name) + " --help)");
}

// "-p/--prompt"
std::string both_names(const Option& option) {
  return (option.letter.empty() ? "" : std::string(option.letter) + "/") + std::string(option.name);
}

// Names may be cut short where that leaves one candidate.
const Option* find(const Command& command, std::string_view name) {
  std::vector<const Option*> candidates;
  for (const OptionGroup& group : command.groups) {
    for (const Option& option : group.options) {
      if (option.name == name || (!option.letter.empty() && option.letter == name)) return &option;
      if (name.size() > 2 && option.name.starts_with(name)) candidates.push_back(&option);
    }
  }
  if (candidates.size() > 1) {
    std::string list;
    for (const Option* one : candidates) list += (list.empty() ? "" : ", ") + std::string(one->name);
    fail_usage(command, "ambiguous option: " + std::string(name) + " could match " + list);
  }
  return candidates.empty() ? nullptr : candidates[0];
}

// What looks like an option but is a negative number is a value.
bool is_value(std::string_view word) {
  return !word.starts_with('-') || word == "-" || parse_number(word) || word.find(' ') != word.npos;
}

bool is_in_range(const Option& option, std::string_view text, double value) {
  if (option.kind == Kind::Integer && option.high > 0x1p63) return parse_unsigned(text).has_value();
  const bool is_low = option.above_low ? value > option.low : value >= option.low;
  return is_low && value <= option.high && value < std::numeric_limits<double>::infinity();
}

void check_number(const Command& command, const Option& option, std::string_view text) {
  if (option.takes_none && text == "none") return;
  std::string_view number = text;
  const auto fail_kind = [&](const char* kind) {
    fail_usage(command, "argument " + both_names(option) + ": invalid " + kind + " value: " + quoted(text));
  };
  if (option.kind == Kind::IdNumber) {
    const size_t at = text.find('=');
    if (at == text.npos || !is_integer(text.substr(0, at))) fail_kind("ID=X");
    number = text.substr(at + 1);
    if (!parse_number(number)) fail_kind("ID=X");
    const auto id = parse_integer(text.substr(0, at));
    if (!id || *id < 0 || *id > std::numeric_limits<int32_t>::max())
      throw Failure(std::string(option.shown_name) + " is " + quoted(text) + ", expected " +
                    std::string(option.range));
  }
  if (option.kind == Kind::Integer && !is_integer(number)) fail_kind("integer");
  if (option.kind == Kind::Number && !parse_number(number)) fail_kind("number");
  const double value = parse_number(number).value_or(std::numeric_limits<double>::infinity());
  if (is_in_range(option, number, value)) return;
  const std::string shown = option.kind == Kind::Number ? number_text(value) : std::string(text);
  throw Failure(std::string(option.shown_name) + " is " + shown + ", expected " + std::string(option.range));
}

void check_value(const Command& command, const Option& option, std::string_view text) {
  if (option.kind == Kind::Text) {
    if (!option.choices.empty() && std::ranges::find(option.choices, text) == option.choices.end()) {
      std::string list;
      for (const std::string_view choice : option.choices)
        list += (list.empty() ? "" : ", ") + quoted(choice);
      fail_usage(command, "argument " + both_names(option) + ": invalid choice: " + quoted(text) +
                              " (choose from " + list + ")");
    }
    if (text.empty() && !option.range.empty())
      throw Failure(std::string(option.shown_name) + " is '', expected " + std::string(option.range));
    return;
  }
  check_number(command, option, text);
}

// One of some options, as the user is told about them.
std::string names_of(const Command& command, std::span<const std::string_view> names, const char* between) {
  std::string out;
  for (const std::string_view name : names) {
    out += (out.empty() ? "" : between) + both_names(*find(command, name));
  }
  return out;
}

}  // namespace

Arguments Arguments::parse(const Command& command, std::span<char* const> words) {
  Arguments out;
  out.command_ = &command;
  std::vector<std::string> rest, unknown;
  const Option* exclusive = nullptr;
  bool only_positional = false;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (only_positional || (is_value(word) && !word.starts_with("--"))) {
      rest.emplace_back(word);
      continue;
    }
    if (word == "--") {
      only_positional = true;
      continue;
    }
    if (word == "-h" || word == "--help") {
      out.wants_help_ = true;
      return out;
    }
    const bool is_long = word.starts_with("--");
    const size_t equals = is_long ? word.find('=') : word.npos;
    std::string_view name = word.substr(0, is_long ? equals : 2);
    std::optional<std::string_view> value;
    if (equals != word.npos) value = word.substr(equals + 1);
    if (!is_long && word.size() > 2) value = word.substr(2);
    const Option* option = find(command, name);
    if (!option) {
      if (std::ranges::find(command.python_only, name) != command.python_only.end())
        fail_usage(command, std::string(name) + " is an option of the Python command only: " +
                                std::string(command.without_python));
      unknown.emplace_back(word);
      continue;
    }
    if (option->kind == Kind::Flag) {
      if (value) {
        fail_usage(command,
                   "argument " + both_names(*option) + ": ignored explicit argument " + quoted(*value));
      }
      out.given_[std::string(option->name)];
      continue;
    }
    if (!value && i + 1 < words.size() && is_value(words[i + 1])) value = words[++i];
    if (!value) fail_usage(command, "argument " + both_names(*option) + ": expected one argument");
    if (std::ranges::find(command.one_of, option->name) != command.one_of.end()) {
      if (exclusive && exclusive != option) {
        fail_usage(command, "argument " + both_names(*option) + ": not allowed with argument " +
                                both_names(*exclusive));
      }
      exclusive = option;
    }
    check_value(command, *option, *value);
    out.given_[std::string(option->name)].emplace_back(*value);
  }
  if (rest.empty())
    fail_usage(command, "the following arguments are required: " + std::string(command.positional));
  if (!command.one_of.empty() && !exclusive) {
    fail_usage(command, "one of the arguments " + names_of(command, command.one_of, " ") + " is required");
  }
  out.positional_ = rest[0];
  if (!rest.empty()) unknown.insert(unknown.end(), rest.begin() + 1, rest.end());
  if (!unknown.empty()) {
    std::string list;
    for (const std::string& one : unknown) list += " " + one;
    fail_usage(command, "unrecognized arguments:" + list);
  }
  return out;
}

const Option& Arguments::option(std::string_view name) const {
  return *find(*command_, name);
}

std::optional<std::string> Arguments::text(std::string_view name) const {
  const auto found = given_.find(name);
  if (found != given_.end())
    return found->second.empty() ? std::nullopt : std::optional(found->second.back());
  const Option& o = option(name);
  return o.fallback.empty() ? std::nullopt : std::optional(std::string(o.fallback));
}

std::optional<int64_t> Arguments::integer(std::string_view name) const {
  const auto given = text(name);
  return given ? parse_integer(*given) : std::nullopt;
}

std::optional<uint64_t> Arguments::unsigned_integer(std::string_view name) const {
  const auto given = text(name);
  return given ? parse_unsigned(*given) : std::nullopt;
}

std::optional<double> Arguments::number(std::string_view name) const {
  const auto given = text(name);
  return given ? parse_number(*given) : std::nullopt;
}

std::vector<std::string> Arguments::texts(std::string_view name) const {
  const auto found = given_.find(name);
  return found == given_.end() ? std::vector<std::string>{} : found->second;
}

std::string wrapped(std::string_view text, size_t indent, size_t first) {
  std::string out;
  size_t column = first;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (column > indent && column + 1 + word.size() > kWidth) {
      out += '\n' + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

namespace {

std::string help_line(std::string_view left, std::string_view help) {
  std::string out = "  " + std::string(left);
  out += out.size() + 2 > kHelpColumn ? "\n" + std::string(kHelpColumn, ' ')
                                      : std::string(kHelpColumn - out.size(), ' ');
  return out + wrapped(help, kHelpColumn, kHelpColumn) + "\n";
}

std::string left_side(const Option& option) {
  const std::string value = option.metavar.empty() ? "" : " " + std::string(option.metavar);
  return (option.letter.empty() ? "" : std::string(option.letter) + value + ", ") + std::string(option.name) +
         value;
}

std::string usage(const Command& command) {
  std::string out = "usage: " + std::string(kProgram) + " " + std::string(command.name) + " [options]";
  if (!command.one_of.empty()) {
    out += " (";
    for (const std::string_view name : command.one_of) {
      const Option& one = *find(command, name);
      out += (out.ends_with('(') ? "" : " | ") + std::string(one.letter.empty() ? one.name : one.letter) +
             " " + std::string(one.metavar);
    }
    out += ")";
  }
  return out + " " + std::string(command.positional) + "\n\n";
}

}  // namespace

std::string help_text(const Command& command) {
  std::string out = usage(command) + wrapped(command.description, 0, 0) + "\n\npositional arguments:\n" +
                    help_line(command.positional, command.positional_help);
  bool is_first = true;
  for (const OptionGroup& group : command.groups) {
    out += "\n" + std::string(group.title) + ":\n";
    if (is_first) out += help_line("-h, --help", "show this help message and exit");
    is_first = false;
    for (const Option& option : group.options) {
      std::string help(option.help);
      if (option.shows_fallback)
        help += " (default: " + std::string(option.fallback.empty() ? "none" : option.fallback) + ")";
      out += help_line(left_side(option), help);
    }
  }
  return out + "\n" + std::string(command.examples);
}

}  // namespace mllm::cli
