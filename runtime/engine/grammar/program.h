// A grammar made ready to be followed byte by byte: one deterministic automaton per rule, with calls between
// them, in flat tables.
#ifndef MINDIR_LLM_GRAMMAR_PROGRAM_H_
#define MINDIR_LLM_GRAMMAR_PROGRAM_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/expressions.h"

namespace mllm::grammar {

struct Program {
  static constexpr uint32_t kNone = 0xffffffff;

  struct Edge {
    uint8_t low, high;  // classes of bytes, both included
    uint32_t to;
  };
  struct Call {
    uint32_t start;
    uint32_t back;  // the node to go on from afterwards; kNone: the caller ends there too
  };
  struct Node {
    uint32_t edges = 0, calls = 0;
    uint32_t n_edges = 0, n_calls = 0;
    uint32_t loop = kNone;  // the loop that this node stands between two rounds of
    bool accepts = false;   // the rule may end here; of a loop: once there were enough rounds
  };
  // Rounds of a body that no other body begins (so that it is certain where a round ends) are counted, not
  // written out. Unlimited loops count no further than `least`.
  struct Loop {
    uint32_t least, most;
    uint32_t boundary;  // node
    uint32_t body;      // in bodies
  };

  std::vector<Node> nodes;
  std::vector<Edge> edges;
  std::vector<Call> calls;
  std::vector<Loop> loops;
  std::vector<Dfa> bodies;  // nodes of bytes, for what looks at a loop as such
  uint32_t start = 0;
  // Bytes that no edge tells apart are of one class; classes are in the order of bytes.
  std::array<uint8_t, 256> class_of{};
  std::vector<uint8_t> first_byte;  // of each class

  std::span<const Edge> edges_of(const Node& n) const { return {edges.data() + n.edges, n.n_edges}; }
  std::span<const Call> calls_of(const Node& n) const { return {calls.data() + n.calls, n.n_calls}; }
};

// Throws INVALID_ARGUMENT where a rule is left recursive, no text matches, or it becomes too large.
Program compile(const Grammar& grammar);

// The automaton of an expression; throws INVALID_ARGUMENT where that refers to a recursive rule.
Dfa automaton_of(const Grammar& grammar, Expression e);

}  // namespace mllm::grammar

#endif  // MINDIR_LLM_GRAMMAR_PROGRAM_H_
