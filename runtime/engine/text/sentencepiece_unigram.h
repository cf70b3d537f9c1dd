// The most probable pieces of a text under a SentencePiece unigram model (Kudo 2018), by Viterbi's algorithm.
#ifndef MINDIR_LLM_TEXT_SENTENCEPIECE_UNIGRAM_H_
#define MINDIR_LLM_TEXT_SENTENCEPIECE_UNIGRAM_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/sentencepiece_vocabulary.h"
#include "text/trie.h"

namespace mllm::text {

class SentencePieceUnigram {
 public:
  explicit SentencePieceUnigram(const SentencePieceVocabulary& vocabulary);

  // Append the ids of a normalized text.
  void encode(std::string_view text, std::vector<int32_t>& ids);

 private:
  const SentencePieceVocabulary& vocabulary_;
  Trie pieces_;
  float unknown_score_;
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_SENTENCEPIECE_UNIGRAM_H_
