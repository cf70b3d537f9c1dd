// Tokens that are found in a text before anything else is done to it: <|im_end|> and the like.
#ifndef MINDIR_LLM_TEXT_ADDED_TOKENS_H_
#define MINDIR_LLM_TEXT_ADDED_TOKENS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/trie.h"

namespace mllm::text {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool special = false;      // a marker, hidden where special tokens are skipped
  bool normalized = false;   // looked for after normalization, which its content has seen too
  bool single_word = false;  // only where no letter or digit touches it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // … and behind it
};

// Finds the longest token at the leftmost place, over and over.
class AddedTokenFinder {
 public:
  // `tokens` must outlive it; spellings[i] is what is looked for to find tokens[i]; "" leaves it out.
  AddedTokenFinder(const std::vector<AddedToken>& tokens, const std::vector<std::string>& spellings);

  // Calls piece(text, token) for each stretch, in order: token is null where the text is none.
  // parse_special false: special tokens are text.
  using Piece = std::function<void(std::string_view, const AddedToken*)>;
  void split(std::string_view text, bool parse_special, const Piece& piece) const;

 private:
  const std::vector<AddedToken>& tokens_;
  Trie trie_;
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_ADDED_TOKENS_H_
