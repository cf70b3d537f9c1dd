#include "text/added_tokens.h"

#include "text/unicode.h"
#include "text/utf8.h"

namespace mllm::text {
namespace {

// The character that ends a valid text.
Utf8Char last_char(std::string_view text) {
  size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) --at;
  return first_char(text.substr(at));
}

// \w of Unicode Technical Standard 18: alphabetic, marks, decimal digits, connectors and join controls.
// Numbers such as superscripts are none of these; letters in circles and squares are alphabetic, though
// symbols by category.
bool is_word(uint32_t code) {
  static const Categories kWord = categories_named("L") | categories_named("M") | categories_named("Nd") |
                                  categories_named("Nl") | bit(Category::Pc);
  struct Range {
    uint32_t first, last;
  };
  constexpr Range kOthers[] = {
      {0x200c, 0x200d}, {0x24b6, 0x24e9}, {0x1f130, 0x1f149}, {0x1f150, 0x1f169}, {0x1f170, 0x1f189}};
  for (const Range& range : kOthers) {
    if (code >= range.first && code <= range.last) return true;
  }
  return (kWord >> static_cast<int>(category(code)) & 1) != 0;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens,
                                   const std::vector<std::string>& spellings)
    : tokens_(tokens) {
  std::vector<Trie::Key> keys;
  for (size_t i = 0; i < spellings.size(); ++i) keys.emplace_back(spellings[i], static_cast<int32_t>(i));
  trie_ = Trie(std::move(keys));
}

void AddedTokenFinder::split(std::string_view text, bool parse_special, const Piece& piece) const {
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const Trie::Match match = trie_.starts(text[at]) ? trie_.longest(text.substr(at)) : Trie::Match{};
    if (!match.length) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(match.value)];
    size_t begin = at;
    size_t end = at + match.length;
    at = end;
    if (token.special && !parse_special) continue;
    if (token.single_word && ((begin > 0 && is_word(last_char(text.substr(0, begin)).code)) ||
                              (end < text.size() && is_word(first_char(text.substr(end)).code)))) {
      continue;
    }
    while (token.lstrip && begin > done) {
      const Utf8Char c = last_char(text.substr(done, begin - done));
      if (!is_space(c.code)) break;
      begin -= c.size;
    }
    while (token.rstrip && end < text.size()) {
      const Utf8Char c = first_char(text.substr(end));
      if (!is_space(c.code)) break;
      end += c.size;
    }
    // Where an earlier token has taken this one along as white space, it is there all the same: as in the
    // tokenizers package.
    if (begin > done) piece(text.substr(done, begin - done), nullptr);
    piece(text.substr(begin, end - begin), &token);
    done = end;
  }
  if (done < text.size()) piece(text.substr(done), nullptr);
}

}  // namespace mllm::text
