// A finite automaton over bytes, whose edges may also be calls of rules.
#ifndef MINDIR_LLM_GRAMMAR_DFA_H_
#define MINDIR_LLM_GRAMMAR_DFA_H_

#include <cstdint>
#include <string_view>
#include <vector>

namespace mllm::grammar {

struct Edge {
  uint8_t low, high;  // both included
  uint32_t to;
  friend bool operator==(const Edge&, const Edge&) = default;
};

struct Call {
  uint32_t rule;
  uint32_t to;  // where it goes on after the rule
  friend bool operator==(const Call&, const Call&) = default;
};

// The start is node 0. A node's edges are sorted and do not overlap; it calls a rule at most once.
struct Dfa {
  struct Node {
    bool accepts = false;
    std::vector<Edge> bytes;
    std::vector<Call> calls;
    friend bool operator==(const Node&, const Node&) = default;
  };
  std::vector<Node> nodes;
  friend bool operator==(const Dfa&, const Dfa&) = default;

  bool matches(std::string_view text) const;  // of one without calls
};

}  // namespace mllm::grammar

#endif  // MINDIR_LLM_GRAMMAR_DFA_H_
