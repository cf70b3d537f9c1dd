// Text to token ids and back: the one interface over every kind of tokenizer.
#ifndef MINDIR_LLM_TEXT_TOKENIZER_H_
#define MINDIR_LLM_TEXT_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mllm::text {

enum class TokenKind {
  Text,
  Byte,     // byte fallback: one byte of a character
  Special,  // <s>, </s>, <unk>: a marker, not text
};

// What the tokens around a text are. -1: there is none.
struct SpecialIds {
  int32_t bos = -1;
  int32_t eos = -1;
  bool add_bos = false;
  bool add_eos = false;
  std::vector<int32_t> stop = {};  // these end a generation
};

struct EncodeOptions {
  bool add_special = true;    // put the begin and end token where the model wants them
  bool parse_special = true;  // the spelling of a special token means that token; false: it is text
};

// How bytes of tokens become text again.
struct DecodingRules {
  bool strip_first_space = false;       // the blank that encoding puts before the text is taken away again
  bool strip_all_first_spaces = false;  // … and so is every further blank piece before the first text
  // Each byte that belongs to no character becomes U+FFFD, and other tokens end a character (SentencePiece);
  // otherwise one U+FFFD stands for as much of a character as there is, and characters may span any tokens.
  bool byte_fallback = false;
};

// Encoding keeps a cache of words: one thread at a time. Everything const may run beside anything.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Bytes that are no UTF-8 count as U+FFFD.
  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {});
  std::string decode(std::span<const int32_t> ids, bool skip_special) const;

  int32_t vocab_size() const { return vocab_size_; }  // ids are below it
  const SpecialIds& special_ids() const { return special_; }
  // Replaces what the tokenizer's own file says; throws FORMAT beginning with `where` for an id that is none.
  void set_special_ids(SpecialIds ids, const std::string& where);
  const DecodingRules& decoding_rules() const { return rules_; }

  // These throw INVALID_ARGUMENT for an id outside the vocabulary. An id that no token has is "", Special.
  TokenKind kind(int32_t id) const;
  std::string piece(int32_t id) const;  // as the vocabulary spells it
  std::string bytes(int32_t id) const;  // what it adds to a text; a special token: its spelling
  // The id with this spelling, or -1.
  virtual int32_t find(std::string_view piece) const = 0;

 protected:
  Tokenizer() = default;

  virtual void encode_text(std::string_view text, bool parse_special, std::vector<int32_t>& ids) = 0;
  // For ids below vocab_size_.
  virtual TokenKind kind_of(int32_t id) const = 0;
  virtual std::string piece_of(int32_t id) const = 0;
  virtual std::string bytes_of(int32_t id) const = 0;

  int32_t vocab_size_ = 0;
  SpecialIds special_;
  DecodingRules rules_;

 private:
  void check(int32_t id) const;
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_TOKENIZER_H_
