// The pieces of a SentencePiece model with what encoding asks about them.
#ifndef MINDIR_LLM_TEXT_SENTENCEPIECE_VOCABULARY_H_
#define MINDIR_LLM_TEXT_SENTENCEPIECE_VOCABULARY_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/piece_table.h"
#include "text/sentencepiece_file.h"
#include "text/trie.h"

namespace mllm::text {

class SentencePieceVocabulary {
 public:
  // Throws FORMAT where a piece is there twice.
  SentencePieceVocabulary(SentencePieceFile model, const std::string& file);
  SentencePieceVocabulary(const SentencePieceVocabulary&) = delete;
  SentencePieceVocabulary& operator=(const SentencePieceVocabulary&) = delete;

  const SentencePieceFile& model() const { return model_; }
  const SentencePiece& operator[](int32_t id) const { return model_.pieces[static_cast<size_t>(id)]; }
  const Trie& user_defined() const { return user_defined_; }

  // The piece of this spelling among those that text is made of, or -1.
  int32_t find_text(std::string_view piece) const { return text_.find(piece); }
  // The same, but the unknown id where there is none: text never becomes a marker that is spelled like it.
  int32_t text_id(std::string_view piece) const {
    const int32_t found = text_.find(piece);
    return found >= 0 ? found : model_.unknown;
  }
  // The id of a piece; markers and bytes come first, as in SentencePiece. The unknown id where there is none.
  int32_t id(std::string_view piece) const {
    const int32_t marker = reserved_.find(piece);
    if (marker >= 0) return marker;
    const int32_t found = text_.find(piece);
    return found >= 0 ? found : model_.unknown;
  }

  // Append what stands for a piece that the model has cut out: its id, or the bytes of an unknown one.
  void emit(std::string_view piece, int32_t id, std::vector<int32_t>& ids) const {
    if (id != model_.unknown) {
      ids.push_back(id);
    } else if (model_.byte_fallback) {
      for (const char c : piece) ids.push_back(model_.byte_pieces[static_cast<unsigned char>(c)]);
    } else {
      ids.push_back(id);
    }
  }

 private:
  SentencePieceFile model_;
  PieceTable text_;      // normal, user defined, unused
  PieceTable reserved_;  // unknown, control, byte
  Trie user_defined_;
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_SENTENCEPIECE_VOCABULARY_H_
