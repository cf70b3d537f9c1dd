// What SentencePiece does to a text before it is cut into pieces: rules of the model's character map, and
// blanks.
#ifndef MINDIR_LLM_TEXT_SENTENCEPIECE_NORMALIZER_H_
#define MINDIR_LLM_TEXT_SENTENCEPIECE_NORMALIZER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/sentencepiece_file.h"
#include "text/trie.h"

namespace mllm::text {

class SentencePieceNormalizer {
 public:
  // `user_defined`: pieces that no rule touches; it must outlive this. Throws FORMAT for a bad character map.
  SentencePieceNormalizer(const SentencePieceFile& model, const Trie& user_defined, const std::string& file);

  std::string normalize(std::string_view text) const;

 private:
  struct Step {
    std::string_view replacement;
    size_t consumed;
  };
  Step step(std::string_view text) const;
  // The longest rule for the text's beginning, in the model's double array (Darts, Yata 2012).
  Step longest_rule(std::string_view text) const;

  const Trie& user_defined_;
  std::vector<uint32_t> units_;
  std::string replacements_;  // each ends with NUL
  bool add_dummy_prefix_, remove_extra_, escape_, suffix_;
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_SENTENCEPIECE_NORMALIZER_H_
