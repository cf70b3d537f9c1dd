// The bytes of every token, arranged so that tokens that begin alike are tried together.
#ifndef MINDIR_LLM_GRAMMAR_VOCABULARY_H_
#define MINDIR_LLM_GRAMMAR_VOCABULARY_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace mllm::grammar {

class Vocabulary {
 public:
  // A place in the tree of beginnings. Node 0 is the root; a subtree's nodes follow their root.
  struct Node {
    uint32_t end = 0;     // behind the subtree
    uint32_t tokens = 0;  // those that end here, in `tokens()`
    uint16_t depth = 0;   // bytes
    uint8_t label = 0;    // the last byte
    uint8_t n_tokens = 0;
  };
  // Longer tokens take no part in a constrained text.
  static constexpr size_t kLongest = 4096;

  explicit Vocabulary(const text::Tokenizer& tokenizer);

  int32_t size() const { return size_; }
  std::span<const Node> nodes() const { return nodes_; }
  std::span<const int32_t> tokens_of(const Node& n) const { return {order_.data() + n.tokens, n.n_tokens}; }
  // Nodes with this label.
  std::span<const uint32_t> labelled(uint8_t byte) const {
    return {by_label_.data() + begin_[byte], begin_[byte + size_t{1}] - begin_[byte]};
  }
  // What the token adds to a text; "" for one that is no text: special tokens, those that end a text.
  std::string_view bytes(int32_t id) const {
    const auto i = static_cast<size_t>(id);
    return std::string_view(pool_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
  }
  // Decoding takes the blank away with which this token begins where it begins a text.
  bool loses_first_blank(int32_t id) const { return !blanks_.empty() && blanks_[static_cast<size_t>(id)]; }
  bool has_such() const { return !blanks_.empty(); }
  // Tokens of which nothing is left then, and whether the next one begins the text still.
  const std::vector<int32_t>& blank_tokens() const { return blank_tokens_; }
  bool loses_all_blanks() const { return loses_all_blanks_; }
  const std::vector<int32_t>& end_tokens() const { return end_tokens_; }

 private:
  int32_t size_;
  std::vector<bool> blanks_;  // which lose it, by id; empty: none does
  std::vector<int32_t> blank_tokens_;
  bool loses_all_blanks_;
  std::vector<int32_t> end_tokens_;
  std::string pool_;
  std::vector<uint32_t> offsets_;  // into the pool, by id, and its end
  std::vector<int32_t> order_;     // ids sorted by bytes
  std::vector<Node> nodes_;
  std::vector<uint32_t> by_label_;  // nodes
  std::array<uint32_t, 257> begin_{};
};

}  // namespace mllm::grammar

#endif  // MINDIR_LLM_GRAMMAR_VOCABULARY_H_
