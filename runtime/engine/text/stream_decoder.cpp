#include "text/stream_decoder.h"

#include <string_view>

#include "text/utf8.h"

namespace mllm::text {

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(tokenizer),
      rules_(tokenizer.decoding_rules()),
      skip_special_(skip_special),
      at_start_(rules_.strip_first_space) {}

void StreamDecoder::push(int32_t id, std::string& out) {
  const TokenKind kind = tokenizer_.kind(id);
  const bool ends_character = rules_.byte_fallback && kind != TokenKind::Byte;
  if (ends_character) take(true, out);
  if (kind == TokenKind::Special) {
    if (skip_special_) return;
    bytes_ += tokenizer_.bytes(id);
    take(rules_.byte_fallback, out);
    at_start_ = rules_.strip_first_space;
    return;
  }
  std::string body = tokenizer_.bytes(id);
  if (at_start_ && kind == TokenKind::Text && tokenizer_.piece(id).starts_with(kVisibleSpace)) {
    body.erase(0, 1);
    at_start_ = rules_.strip_all_first_spaces;
  }
  if (kind == TokenKind::Text && !body.empty()) at_start_ = false;
  bytes_ += body;
  take(ends_character, out);
}

void StreamDecoder::flush(std::string& out) {
  take(true, out);
  at_start_ = rules_.strip_first_space;
}

void StreamDecoder::take(bool final, std::string& out) {
  std::string_view rest = bytes_;
  while (!rest.empty()) {
    const size_t good = valid_prefix(rest);
    out += rest.substr(0, good);
    if (good) at_start_ = false;
    rest.remove_prefix(good);
    if (rest.empty()) break;
    const Utf8Char bad = first_char(rest);
    if (bad.truncated && !final) break;
    out += kReplacement;
    at_start_ = false;
    rest.remove_prefix(rules_.byte_fallback ? 1 : bad.size);
  }
  bytes_.erase(0, bytes_.size() - rest.size());
}

}  // namespace mllm::text
