// Properties of characters, and canonical composition (NFC), from generated tables
// (tools/make_unicode_tables.py).
#ifndef MINDIR_LLM_TEXT_UNICODE_H_
#define MINDIR_LLM_TEXT_UNICODE_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace mllm::text {

// General categories; the tables' generator has the same order.
enum class Category : uint8_t {
  Lu,
  Ll,
  Lt,
  Lm,
  Lo,
  Mn,
  Mc,
  Me,
  Nd,
  Nl,
  No,
  Pc,
  Pd,
  Ps,
  Pe,
  Pi,
  Pf,
  Po,
  Sm,
  Sc,
  Sk,
  So,
  Zs,
  Zl,
  Zp,
  Cc,
  Cf,
  Cs,
  Co,
  Cn
};

// A set of categories, as bits.
using Categories = uint32_t;
inline constexpr Categories bit(Category c) {
  return Categories{1} << static_cast<int>(c);
}
inline constexpr Categories kAllCategories = (Categories{1} << 30) - 1;

// The set that a name such as "L", "Lu" or "Letter" stands for; 0 where it is none.
Categories categories_named(std::string_view name);

Category category(uint32_t code);
bool is_space(uint32_t code);  // the property White_Space

// The valid UTF-8 text in Unicode's normal form C.
std::string to_nfc(std::string_view text);

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_UNICODE_H_
