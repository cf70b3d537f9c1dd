// A grammar as it is written: rules over expressions. GBNF texts, JSON schemas and patterns all become one.
#ifndef MINDIR_LLM_GRAMMAR_EXPRESSIONS_H_
#define MINDIR_LLM_GRAMMAR_EXPRESSIONS_H_

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "grammar/dfa.h"

namespace mllm::grammar {

inline constexpr uint32_t kUnlimited = 0xffffffff;

struct CharRange {
  uint32_t low, high;  // both included
};
using CharRanges = std::vector<CharRange>;

// Sorted and disjoint, without surrogates, which are no characters.
CharRanges normalized(CharRanges ranges);
CharRanges complement(const CharRanges& normalized_ranges);

// An expression is a number; expressions only refer to earlier ones, and to rules by number.
using Expression = uint32_t;

class Grammar {
 public:
  static constexpr size_t kMostExpressions = 1 << 20;

  enum class Kind : uint8_t {
    Text,      // these bytes
    Chars,     // one character of a set
    Sequence,  // all parts, in order
    Choice,    // one of the parts; of no parts: nothing matches
    Repeat,    // the part, least to most times
    Rule,      // what a rule matches
    Both,      // what two parts match; neither may refer to recursive rules
    Without,   // what the first part matches and the second does not; the same holds
    Machine,   // what an automaton without calls matches
  };
  struct Node {
    Kind kind;
    uint32_t first = 0, count = 0;  // parts: where in their pool; Rule: first is its number
    uint32_t least = 0, most = 0;   // Repeat
  };
  struct Rule {
    std::string name;
    Expression body = 0;
    bool defined = false;
  };

  // Each throws INVALID_ARGUMENT where the grammar becomes too large.
  Expression text(std::string_view bytes);
  Expression chars(std::span<const CharRange> ranges);  // in any order
  Expression sequence(std::span<const Expression> parts);
  Expression choice(std::span<const Expression> parts);
  // Lists within braces need no memory of their own.
  Expression chars(std::initializer_list<CharRange> ranges) {
    return chars(std::span(ranges.begin(), ranges.size()));
  }
  Expression sequence(std::initializer_list<Expression> parts) {
    return sequence(std::span(parts.begin(), parts.size()));
  }
  Expression choice(std::initializer_list<Expression> parts) {
    return choice(std::span(parts.begin(), parts.size()));
  }
  Expression repeat(Expression part, uint32_t least, uint32_t most = kUnlimited);
  Expression rule(uint32_t number);
  Expression both(Expression a, Expression b);
  Expression without(Expression a, Expression b);
  Expression machine(Dfa dfa);
  Expression empty() { return sequence(std::span<const Expression>()); }
  Expression never() { return choice(std::span<const Expression>()); }
  Expression optional(Expression part) { return repeat(part, 0, 1); }

  uint32_t add_rule(std::string name);
  void define(uint32_t number, Expression body);

  const Node& node(Expression e) const { return nodes_[e]; }
  Expression part(const Node& n, size_t i) const { return parts_[n.first + i]; }
  std::string_view text(const Node& n) const { return std::string_view(texts_).substr(n.first, n.count); }
  const CharRanges& chars(const Node& n) const { return sets_[n.first]; }
  const Dfa& machine(const Node& n) const { return machines_[n.first]; }
  const std::vector<Rule>& rules() const { return rules_; }
  size_t size() const { return nodes_.size(); }

  uint32_t root = 0;  // rule

 private:
  Expression add(Node node);
  Expression add(Kind kind, std::span<const Expression> parts);

  std::vector<Node> nodes_;
  std::vector<Expression> parts_;
  std::string texts_;
  std::vector<CharRanges> sets_;
  std::vector<Dfa> machines_;
  std::vector<Rule> rules_;
};

}  // namespace mllm::grammar

#endif  // MINDIR_LLM_GRAMMAR_EXPRESSIONS_H_
