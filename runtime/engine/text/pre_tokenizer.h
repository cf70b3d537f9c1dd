// Cuts a text into the words that byte-pair encoding works on, as Hugging Face's pre-tokenizers do.
#ifndef MINDIR_LLM_TEXT_PRE_TOKENIZER_H_
#define MINDIR_LLM_TEXT_PRE_TOKENIZER_H_

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"

namespace mllm::text {

// The patterns of well-known families, for files that do not state theirs.
extern const std::string_view kGpt2Pattern;
extern const std::string_view kLlama3Pattern;
extern const std::string_view kQwen2Pattern;

class PreTokenizer {
 public:
  enum class Keep { All, Matches, Gaps };  // matches and what lies between them, or only one of the two

  // Each step cuts the words of the step before.
  void add_split(Regex regex, Keep keep) { steps_.push_back({std::move(regex), keep}); }
  void add_space_prefix() {
    steps_.push_back({std::nullopt, Keep::All});
  }  // a blank before each word without one

  // Calls word(text) for each word in order; the texts are valid during the call only.
  using Word = std::function<void(std::string_view)>;
  void split(std::string_view text, const Word& word) const { apply(0, text, word); }

 private:
  struct Step {
    std::optional<Regex> regex;  // none: a space prefix
    Keep keep;
  };
  void apply(size_t step, std::string_view text, const Word& word) const;

  std::vector<Step> steps_;
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_PRE_TOKENIZER_H_
