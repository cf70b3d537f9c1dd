// What a SentencePiece model file (sentencepiece_model.proto) says, decoded and checked.
#ifndef MINDIR_LLM_TEXT_SENTENCEPIECE_FILE_H_
#define MINDIR_LLM_TEXT_SENTENCEPIECE_FILE_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mllm::text {

enum class PieceType : int32_t {
  Normal = 1,
  Unknown = 2,
  Control = 3,
  UserDefined = 4,
  Unused = 5,
  Byte = 6
};

struct SentencePiece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::Normal;
};

struct SentencePieceFile {
  enum class Algorithm { Unigram, Bpe };

  // Throws FORMAT naming the file where it is none or is damaged, UNSUPPORTED for word and character models.
  static SentencePieceFile parse(std::string_view content, const std::string& file);

  Algorithm algorithm = Algorithm::Unigram;
  std::vector<SentencePiece> pieces;  // none is empty; one of them is Unknown
  int32_t unknown = -1;
  bool byte_fallback = false;            // then every byte has a piece:
  std::array<int32_t, 256> byte_pieces;  // ids by byte, -1 without byte_fallback
  std::string bos_piece = "<s>";
  std::string eos_piece = "</s>";
  bool space_is_suffix = false;  // treat_whitespace_as_suffix

  std::string charsmap;  // precompiled normalization rules, may be empty
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_SENTENCEPIECE_FILE_H_
