// Blanks at the ends of texts.
#ifndef MINDIR_LLM_CLI_STRINGS_H_
#define MINDIR_LLM_CLI_STRINGS_H_

#include <string_view>

namespace mllm::cli {

inline constexpr std::string_view kBlanks = " \t\r\n\f\v";

inline std::string_view stripped_left(std::string_view text, std::string_view what = kBlanks) {
  const size_t first = text.find_first_not_of(what);
  return first == text.npos ? std::string_view() : text.substr(first);
}

inline std::string_view stripped_right(std::string_view text, std::string_view what = kBlanks) {
  return text.substr(0, text.find_last_not_of(what) + 1);
}

inline std::string_view stripped(std::string_view text, std::string_view what = kBlanks) {
  return stripped_right(stripped_left(text, what), what);
}

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_STRINGS_H_
