#include "text/pre_tokenizer.h"

namespace mllm::text {

const std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string_view kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

void PreTokenizer::apply(size_t step, std::string_view text, const Word& word) const {
  if (text.empty()) return;
  if (step == steps_.size()) {
    word(text);
    return;
  }
  const Step& s = steps_[step];
  if (!s.regex) {
    if (text.starts_with(' ')) {
      apply(step + 1, text, word);
    } else {
      apply(step + 1, " " + std::string(text), word);
    }
    return;
  }
  Regex::Search search(*s.regex, text);
  size_t done = 0;
  for (Regex::Match match{}; search.next(match); done = match.end) {
    if (s.keep != Keep::Matches) apply(step + 1, text.substr(done, match.begin - done), word);
    if (s.keep != Keep::Gaps) apply(step + 1, text.substr(match.begin, match.end - match.begin), word);
  }
  if (s.keep != Keep::Matches) apply(step + 1, text.substr(done), word);
}

}  // namespace mllm::text
