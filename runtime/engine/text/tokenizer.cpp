#include "text/tokenizer.h"

#include "base/error.h"
#include "text/stream_decoder.h"

namespace mllm::text {

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) {
  std::vector<int32_t> ids;
  ids.reserve(text.size() / 3 + 2);
  if (options.add_special && special_.add_bos) ids.push_back(special_.bos);
  encode_text(text, options.parse_special, ids);
  if (options.add_special && special_.add_eos) ids.push_back(special_.eos);
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  StreamDecoder decoder(*this, skip_special);
  std::string text;
  for (const int32_t id : ids) decoder.push(id, text);
  decoder.flush(text);
  return text;
}

void Tokenizer::set_special_ids(SpecialIds ids, const std::string& where) {
  const auto check_id = [&](const char* name, int32_t id) {
    if (id < -1 || id >= vocab_size_) {
      fail_format(where + name + " is " + std::to_string(id) + ", but the vocabulary has " +
                  std::to_string(vocab_size_) + " tokens");
    }
  };
  check_id("bos_token_id", ids.bos);
  check_id("eos_token_id", ids.eos);
  if (ids.add_bos && ids.bos < 0) fail_format(where + "add_bos_token is set, but there is no bos_token_id");
  if (ids.add_eos && ids.eos < 0) fail_format(where + "add_eos_token is set, but there is no eos_token_id");
  special_ = std::move(ids);
}

void Tokenizer::check(int32_t id) const {
  if (id < 0 || id >= vocab_size_) {
    fail_argument("token id " + std::to_string(id) + " is outside the vocabulary [0, " +
                  std::to_string(vocab_size_) + ")");
  }
}

TokenKind Tokenizer::kind(int32_t id) const {
  check(id);
  if (id == special_.bos || id == special_.eos) return TokenKind::Special;
  return kind_of(id);
}

std::string Tokenizer::piece(int32_t id) const {
  check(id);
  return piece_of(id);
}

std::string Tokenizer::bytes(int32_t id) const {
  return kind(id) == TokenKind::Special ? piece_of(id) : bytes_of(id);
}

}  // namespace mllm::text
