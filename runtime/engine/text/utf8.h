// UTF-8, read one character at a time. Text comes from users and files, so any bytes must do.
#ifndef MINDIR_LLM_TEXT_UTF8_H_
#define MINDIR_LLM_TEXT_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mllm::text {

inline constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD
// SentencePiece's blank, U+2581.
inline constexpr std::string_view kVisibleSpace = "\xe2\x96\x81";

// The first character of a text.
struct Utf8Char {
  uint32_t code = 0;       // U+FFFD where the bytes are no character
  uint32_t size = 1;       // bytes; of bad bytes, how many Unicode replaces by one U+FFFD
  bool valid = true;       // shortest form, no surrogate, at most U+10FFFF
  bool truncated = false;  // not valid, but further bytes could make it so
};

// `text` must not be empty.
inline Utf8Char first_char(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead};
  const uint32_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4) return {0xfffd, 1, false};
  uint32_t code = lead & (0xffu >> (length + 1));
  for (uint32_t i = 1; i < length; ++i) {
    if (i == text.size()) return {0xfffd, i, false, true};
    const uint32_t next = byte(i);
    // The second byte's range excludes long forms, surrogates and what lies behind U+10FFFF.
    const uint32_t low = i > 1 ? 0x80 : lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const uint32_t high = i > 1 ? 0xbf : lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (next < low || next > high) return {0xfffd, i, false};
    code = code << 6 | (next & 0x3f);
  }
  return {code, length};
}

// Bytes of a character by its first byte, without a look at the others; never more than there are.
inline size_t char_size(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t size = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  return size < text.size() ? size : text.size();
}

inline void append_utf8(std::string& out, uint32_t code) {
  const auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

// Bytes of the text's beginning that are valid characters.
size_t valid_prefix(std::string_view text);

// The text with U+FFFD in place of bad bytes, as Python's errors="replace" puts them.
std::string replace_invalid(std::string_view text);

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_UTF8_H_
