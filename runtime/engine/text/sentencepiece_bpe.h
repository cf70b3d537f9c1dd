// Byte-pair merges of a SentencePiece model. The whole text is one word to such a model; it is cut where no
// merge can reach across, which changes nothing and makes most of it words that were seen before.
#ifndef MINDIR_LLM_TEXT_SENTENCEPIECE_BPE_H_
#define MINDIR_LLM_TEXT_SENTENCEPIECE_BPE_H_

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/sentencepiece_vocabulary.h"
#include "text/word_cache.h"

namespace mllm::text {

class SentencePieceBpe {
 public:
  explicit SentencePieceBpe(const SentencePieceVocabulary& vocabulary);

  // Append the ids of a normalized text.
  void encode(std::string_view text, std::vector<int32_t>& ids);

 private:
  struct Symbol {
    uint32_t begin, size;  // in the word; size 0: merged into its left neighbour
    int32_t previous, next;
  };
  struct Pair {
    float score;
    int32_t left, right;
    uint32_t size;  // of the merged piece; another size of the symbols means that the pair is history
  };

  void encode_word(std::string_view word, std::vector<int32_t>& ids);
  void merge(std::string_view word, std::vector<int32_t>& ids);
  void propose(std::string_view word, int32_t left, int32_t right);
  // A merge may end in a piece that is not to be used; then its two parts are.
  void emit(std::string_view word, uint32_t begin, uint32_t size, std::vector<int32_t>& ids);
  static size_t pair_slot(std::string_view left, std::string_view right);

  const SentencePieceVocabulary& vocabulary_;
  std::vector<bool> joined_;  // by hash: two characters that stand side by side within some piece
  bool has_unused_ = false;
  WordCache cache_;
  std::vector<Symbol> symbols_;
  std::vector<Pair> agenda_;                               // a heap
  std::unordered_map<std::string_view, uint32_t> splits_;  // unused pieces, and the size of their left part
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_SENTENCEPIECE_BPE_H_
