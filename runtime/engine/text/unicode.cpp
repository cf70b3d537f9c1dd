#include "text/unicode.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "text/utf8.h"

namespace mllm::text {
namespace {

#include "text/unicode_tables.inc"

constexpr uint8_t kSpaceBit = 32;
constexpr uint8_t kUnstableBit = 64;  // NFC may change a text that has this character

uint8_t properties(uint32_t code) {
  if (code > 0x10ffff) return 0;
  const size_t block = kBlocks[kPages[code / kBlock / kPage] * kPage + code / kBlock % kPage];
  return kProperties[block * kBlock + code % kBlock];
}

// An entry of kDecompositions: a character and what it decomposes into, second 0 where that is one character.
struct Decomposition {
  uint32_t code, first, second;
};

Decomposition decomposition(size_t i) {
  const uint32_t high = kDecompositionsHigh[i];
  const uint16_t (&low)[3] = kDecompositions[i];
  return {(high & 3) << 16 | low[0], (high >> 2 & 3) << 16 | low[1], (high >> 4) << 16 | low[2]};
}

// The first of `count` things in order that is not below what is looked for.
template <class Below>
size_t lower_bound(size_t count, Below&& below) {
  size_t first = 0;
  while (count) {
    const size_t half = count / 2;
    if (below(first + half)) {
      first += half + 1;
      count -= half + 1;
    } else {
      count = half;
    }
  }
  return first;
}

// Hangul syllables decompose and compose by arithmetic (Unicode, section 3.12).
constexpr uint32_t kSyllables = 0xac00, kLeading = 0x1100, kVowels = 0x1161, kTrailing = 0x11a7;
constexpr uint32_t kVowelCount = 21, kTrailingCount = 28, kLeadingCount = 19;
constexpr uint32_t kSyllableCount = kLeadingCount * kVowelCount * kTrailingCount;

uint8_t combining_class(uint32_t code) {
  if (!(properties(code) & kUnstableBit)) return 0;
  // Runs are sorted; the one that may have the character is the last that begins at or before it.
  const size_t after =
      lower_bound(std::size(kCombiningClasses), [&](size_t i) { return kCombiningClasses[i] >> 15 <= code; });
  if (after == 0) return 0;
  const uint32_t run = kCombiningClasses[after - 1];
  return code - (run >> 15) < (run >> 8 & 127) ? static_cast<uint8_t>(run) : 0;
}

void decompose(uint32_t code, std::vector<uint32_t>& out) {
  if (code - kSyllables < kSyllableCount) {
    const uint32_t index = code - kSyllables;
    out.push_back(kLeading + index / (kVowelCount * kTrailingCount));
    out.push_back(kVowels + index / kTrailingCount % kVowelCount);
    if (index % kTrailingCount) out.push_back(kTrailing + index % kTrailingCount);
    return;
  }
  const size_t count = std::size(kDecompositions);
  const size_t at =
      code < 0xc0 ? count : lower_bound(count, [&](size_t i) { return decomposition(i).code < code; });
  if (at == count || decomposition(at).code != code) {
    out.push_back(code);
    return;
  }
  const Decomposition parts = decomposition(at);
  decompose(parts.first, out);  // at most four deep in Unicode
  if (parts.second) decompose(parts.second, out);
}

// 0: they do not compose.
uint32_t compose(uint32_t first, uint32_t second) {
  if (first - kLeading < kLeadingCount && second - kVowels < kVowelCount) {
    return kSyllables + ((first - kLeading) * kVowelCount + (second - kVowels)) * kTrailingCount;
  }
  if (first - kSyllables < kSyllableCount && (first - kSyllables) % kTrailingCount == 0 &&
      second - kTrailing - 1 < kTrailingCount - 1) {
    return first + (second - kTrailing);
  }
  const size_t at = lower_bound(std::size(kCompositions), [&](size_t i) {
    const Decomposition d = decomposition(kCompositions[i]);
    return d.first != first ? d.first < first : d.second < second;
  });
  if (at == std::size(kCompositions)) return 0;
  const Decomposition found = decomposition(kCompositions[at]);
  return found.first == first && found.second == second ? found.code : 0;
}

// Puts each run of combining characters in the order of their classes.
void reorder(std::vector<std::pair<uint32_t, uint8_t>>& characters) {
  for (auto begin = characters.begin(); begin != characters.end();) {
    if (begin->second == 0) {
      ++begin;
      continue;
    }
    const auto end = std::find_if(begin, characters.end(), [](const auto& c) { return c.second == 0; });
    std::stable_sort(begin, end, [](const auto& a, const auto& b) { return a.second < b.second; });
    begin = end;
  }
}

bool is_stable(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0x80) {
      ++at;
      continue;
    }
    const Utf8Char c = first_char(text.substr(at));
    if (properties(c.code) & kUnstableBit) return false;
    at += c.size;
  }
  return true;
}

}  // namespace

Categories categories_named(std::string_view name) {
  constexpr std::string_view kShort = "LuLlLtLmLoMnMcMeNdNlNoPcPdPsPePiPfPoSmScSkSoZsZlZpCcCfCsCoCn";
  constexpr std::pair<std::string_view, std::string_view> kLong[] = {{"Letter", "L"},
                                                                     {"Mark", "M"},
                                                                     {"Number", "N"},
                                                                     {"Punctuation", "P"},
                                                                     {"Punct", "P"},
                                                                     {"Symbol", "S"},
                                                                     {"Separator", "Z"},
                                                                     {"Other", "C"},
                                                                     {"Uppercase_Letter", "Lu"},
                                                                     {"Lowercase_Letter", "Ll"},
                                                                     {"Decimal_Number", "Nd"}};
  for (const auto& [spelled, meant] : kLong) {
    if (name == spelled) name = meant;
  }
  Categories found = 0;
  for (size_t i = 0; i < kShort.size() / 2; ++i) {
    const std::string_view one = kShort.substr(2 * i, 2);
    if (one == name || (name.size() == 1 && one[0] == name[0])) found |= Categories{1} << i;
  }
  return found;
}

Category category(uint32_t code) {
  return static_cast<Category>(properties(code) & 31);
}

bool is_space(uint32_t code) {
  return (properties(code) & kSpaceBit) != 0;
}

std::string to_nfc(std::string_view text) {
  if (is_stable(text)) return std::string(text);
  std::vector<std::pair<uint32_t, uint8_t>> characters;
  characters.reserve(text.size());
  std::vector<uint32_t> parts;
  while (!text.empty()) {
    const Utf8Char c = first_char(text);
    text.remove_prefix(c.size);
    parts.clear();
    decompose(c.code, parts);
    for (const uint32_t part : parts) characters.emplace_back(part, combining_class(part));
  }
  reorder(characters);
  // Compose with the last starter whatever nothing of the same or a higher class stands in front of.
  std::vector<uint32_t> out;
  out.reserve(characters.size());
  size_t starter = 0;
  bool has_starter = false;
  uint8_t last_class = 0;
  for (const auto& [code, number] : characters) {
    if (has_starter && (out.size() == starter + 1 || (last_class < number && last_class != 0))) {
      if (const uint32_t composed = compose(out[starter], code)) {
        out[starter] = composed;
        continue;
      }
    }
    if (number == 0) {
      starter = out.size();
      has_starter = true;
    }
    last_class = number;
    out.push_back(code);
  }
  std::string composed;
  composed.reserve(out.size() * 3);
  for (const uint32_t code : out) append_utf8(composed, code);
  return composed;
}

}  // namespace mllm::text
