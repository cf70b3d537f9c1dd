// How JSON writes things: strings and their characters, numbers, blanks.
#ifndef MINDIR_LLM_GRAMMAR_JSON_TEXT_H_
#define MINDIR_LLM_GRAMMAR_JSON_TEXT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "grammar/expressions.h"

namespace mllm::grammar {

// The characters of a string, escaped in the one way that patterns and keys know: only where JSON asks for
// it, and by the short escape where there is one.
std::string escaped(std::string_view text);

// A bound of numbers.
struct Bound {
  double value;
  bool excluded;
};

struct NumberRange {
  std::optional<Bound> low, high;
  bool contains(double value) const;
};

// Expressions in one grammar; each is made once.
class JsonText {
 public:
  explicit JsonText(Grammar& grammar) : g_(grammar) {}

  // Between the parts of arrays and objects: nothing, a blank, or a line end and an indentation.
  Expression blank();
  // One character of any string, however it is escaped; no lone surrogates.
  Expression any_char();
  // One character of the set, escaped as `escaped` does.
  Expression chars(const CharRanges& set);
  Expression one_way_char() { return chars({{0, 0x10ffff}}); }
  Expression quoted(Expression body);

  // At most 18 digits. Throws UNSUPPORTED beginning with `where` for what cannot be honoured.
  Expression integer(const NumberRange& range, const std::string& where);
  // At most 16 digits before the point and 20 behind it. With a range there is no exponent, and 15 of each.
  Expression number(const NumberRange& range, const std::string& where);
  // Integers that the factor divides.
  Expression multiples(int64_t factor);

 private:
  Expression digits(uint32_t least, uint32_t most);
  Expression same_length(std::string_view low, std::string_view high);
  Expression digits_from(std::string_view low);
  Expression digits_to(std::string_view high);
  Expression natural(uint64_t low, uint64_t high);
  struct Decimal {
    uint64_t whole = 0;
    std::string fraction = "";  // without zeros at its end
  };
  static Decimal decimal(double value);
  Expression not_zero(uint32_t most);
  Expression at_least(const Decimal& bound, bool excluded);
  Expression at_most(const Decimal& bound, bool excluded);

  Grammar& g_;
  uint32_t fraction_digits_ = 0;  // of numbers between bounds
  std::optional<Expression> blank_, any_char_;
};

}  // namespace mllm::grammar

#endif  // MINDIR_LLM_GRAMMAR_JSON_TEXT_H_
