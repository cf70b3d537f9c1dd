// Making finite automata, and what can be done with them.
#ifndef MINDIR_LLM_GRAMMAR_AUTOMATON_H_
#define MINDIR_LLM_GRAMMAR_AUTOMATON_H_

#include <cstdint>
#include <vector>

#include "grammar/dfa.h"
#include "grammar/expressions.h"

namespace mllm::grammar {

// With empty edges and as many edges for a byte as there may be.
class Nfa {
 public:
  struct Node {
    std::vector<uint32_t> empty;
    std::vector<Edge> bytes;
    std::vector<Call> calls;
  };
  static constexpr size_t kMostNodes = 400'000;

  uint32_t add();  // throws INVALID_ARGUMENT when there are too many
  // Paths from one node to another for each character of the set, in UTF-8.
  void add_chars(uint32_t from, uint32_t to, const CharRanges& ranges);

  std::vector<Node> nodes;
};

// Throws INVALID_ARGUMENT when it would become too large.
Dfa determinize(const Nfa& nfa, uint32_t start, uint32_t end);
// What both match, or what `a` matches and `b` does not. Neither has calls.
Dfa both(const Dfa& a, const Dfa& b);
Dfa without(const Dfa& a, const Dfa& b);
// Takes away nodes that lead nowhere or cannot be reached, and merges nodes that go on in the same way.
void tidy(Dfa& dfa);

}  // namespace mllm::grammar

#endif  // MINDIR_LLM_GRAMMAR_AUTOMATON_H_
