// Merges as files spell them: "Ġ t".
#ifndef MINDIR_LLM_TEXT_MERGE_RULES_H_
#define MINDIR_LLM_TEXT_MERGE_RULES_H_

#include <string>
#include <string_view>

#include "base/error.h"
#include "text/byte_level.h"

namespace mllm::text {

// Throws FORMAT beginning with `where` for a merge of or into what the vocabulary lacks.
inline void add_merge(std::string_view left, std::string_view right, const std::string& where,
                      ByteLevelModel& model) {
  const ByteLevelVocabulary& vocabulary = model.vocabulary;
  MergeTable::Merge merge{};
  if (std::string a, b; bytes_of_spelling(left, a) && bytes_of_spelling(right, b)) {
    merge = {vocabulary.find_bytes(a), vocabulary.find_bytes(b), vocabulary.find_bytes(a + b)};
  } else {
    merge = {vocabulary.find_spelling(left), vocabulary.find_spelling(right),
             vocabulary.find_spelling(std::string(left) + std::string(right))};
  }
  if (merge.left < 0 || merge.right < 0 || merge.id < 0) {
    fail_format(where + "a merge of \"" + std::string(left) + "\" and \"" + std::string(right) +
                "\", which are not in the vocabulary, or not together");
  }
  model.merges.add(merge);
}

// "left right"
inline void add_merge(std::string_view rule, const std::string& where, ByteLevelModel& model) {
  const size_t blank = rule.find(' ');
  if (blank == std::string_view::npos || rule.find(' ', blank + 1) != std::string_view::npos)
    fail_format(where + "the merge \"" + std::string(rule) + "\" is no pair with a blank between");
  add_merge(rule.substr(0, blank), rule.substr(blank + 1), where, model);
}

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_MERGE_RULES_H_
