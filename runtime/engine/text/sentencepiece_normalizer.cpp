#include "text/sentencepiece_normalizer.h"

#include "base/error.h"
#include "text/utf8.h"

namespace mllm::text {
namespace {

uint32_t little_endian(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value |= uint32_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return value;
}

// The parts of one unit of the double array.
bool has_leaf(uint32_t unit) {
  return (unit >> 8 & 1) != 0;
}
uint32_t label(uint32_t unit) {
  return unit & 0x800000ffu;
}
uint32_t offset(uint32_t unit) {
  return (unit >> 10) << ((unit & 0x200) >> 6);
}
uint32_t value(uint32_t unit) {
  return unit & 0x7fffffffu;
}

}  // namespace

SentencePieceNormalizer::SentencePieceNormalizer(const SentencePieceFile& model, const Trie& user_defined,
                                                 const std::string& file)
    : user_defined_(user_defined),
      add_dummy_prefix_(model.add_dummy_prefix),
      remove_extra_(model.remove_extra_whitespaces),
      escape_(model.escape_whitespaces),
      suffix_(model.space_is_suffix) {
  if (model.charsmap.empty()) return;
  // A 32-bit length, so many bytes of double array, and the replacements that its values point to.
  std::string_view map = model.charsmap;
  const auto refuse = [&] { fail_format(file + ": precompiled_charsmap is damaged"); };
  if (map.size() < 4) refuse();
  const size_t array_bytes = little_endian(map);
  map.remove_prefix(4);
  if (array_bytes > map.size() || array_bytes % 4 != 0 || array_bytes == 0) refuse();
  units_.reserve(array_bytes / 4);
  for (size_t i = 0; i < array_bytes; i += 4) units_.push_back(little_endian(map.substr(i)));
  replacements_ = map.substr(array_bytes);
  if (replacements_.empty() || replacements_.back() != '\0') refuse();
}

SentencePieceNormalizer::Step SentencePieceNormalizer::longest_rule(std::string_view text) const {
  Step best{{}, 0};
  uint32_t node = offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (node >= units_.size() || label(units_[node]) != byte) break;
    const uint32_t unit = units_[node];
    node ^= offset(unit);
    if (!has_leaf(unit) || node >= units_.size()) continue;
    const uint32_t at = value(units_[node]);
    if (at < replacements_.size()) best = {std::string_view(replacements_.c_str() + at), i + 1};
  }
  return best;
}

SentencePieceNormalizer::Step SentencePieceNormalizer::step(std::string_view text) const {
  if (user_defined_.starts(text[0])) {
    if (const size_t length = user_defined_.longest(text).length) return {text.substr(0, length), length};
  }
  if (!units_.empty()) {
    if (const Step rule = longest_rule(text); rule.consumed) return rule;
  }
  const Utf8Char c = first_char(text);
  if (!c.valid) return {kReplacement, 1};
  return {text.substr(0, c.size), c.size};
}

std::string SentencePieceNormalizer::normalize(std::string_view text) const {
  const std::string_view space = escape_ ? kVisibleSpace : " ";
  if (remove_extra_) {
    while (!text.empty()) {
      const Step s = step(text);
      if (s.replacement != " ") break;
      text.remove_prefix(s.consumed);
    }
  }
  std::string out;
  if (text.empty()) return out;
  out.reserve(text.size() + text.size() / 2 + 3);
  if (add_dummy_prefix_ && !suffix_) out += space;
  bool after_space = remove_extra_;
  while (!text.empty()) {
    const Step s = step(text);
    text.remove_prefix(s.consumed);
    std::string_view body = s.replacement;
    while (after_space && body.starts_with(' ')) body.remove_prefix(1);
    for (const char c : body) {
      if (c == ' ') {
        out += space;
      } else {
        out += c;
      }
    }
    if (!body.empty()) after_space = remove_extra_ && body.ends_with(' ');
  }
  if (remove_extra_) {
    while (out.ends_with(space)) out.erase(out.size() - space.size());
  }
  if (add_dummy_prefix_ && suffix_) out += space;
  return out;
}

}  // namespace mllm::text
