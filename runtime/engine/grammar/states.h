// Where in a grammar a text can be: sets of stacks of nodes, each set a number. What a byte makes of a set is
// computed once and then looked up.
#ifndef MINDIR_LLM_GRAMMAR_STATES_H_
#define MINDIR_LLM_GRAMMAR_STATES_H_

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/program.h"

namespace mllm::grammar {

using State = uint32_t;
inline constexpr State kDead = 0;  // nothing matches any more

class States {
 public:
  // The top of a stack; only what has edges is on top.
  struct Entry {
    uint32_t node;
    uint32_t rounds;  // of the loop that the node belongs to
    uint32_t below;   // frame, 0: none
    friend bool operator==(const Entry&, const Entry&) = default;
    friend auto operator<=>(const Entry&, const Entry&) = default;
  };
  static constexpr size_t kMostEntries = 4096;

  // The program must outlive it.
  explicit States(const Program& program);

  State start();
  // What follows the frame.
  State after(uint32_t frame);
  State of(std::vector<Entry> entries, bool accepts);
  // Throws INVALID_ARGUMENT where a text can be read in too many ways at once.
  State step(State state, uint8_t byte_class) {
    const State next = rows_[size_t{state} * width_ + byte_class];
    return next != kUnknown ? next : compute(state, byte_class);
  }
  bool accepts(State state) const { return sets_[state].accepts; }  // the text may end here
  std::span<const Entry> entries(State state) const {
    return {entries_.data() + sets_[state].begin, sets_[state].size};
  }

  // How much has been found so far.
  size_t size() const { return sets_.size() + frames_.size(); }
  // Forgets everything but these states, and gives them new numbers.
  void collect(std::span<State* const> kept);

 private:
  static constexpr State kUnknown = 0xffffffff;
  struct Set {
    uint32_t begin = 0, size = 0;
    bool accepts = false;
  };
  struct Frame {
    uint32_t node, below;
  };

  State compute(State state, uint8_t byte_class);
  uint32_t frame(uint32_t node, uint32_t below);
  // Adds the entry, what it calls and what follows it.
  void close(Entry entry);
  State intern();
  static uint64_t hash(std::span<const Entry> entries, bool accepts);

  const Program& program_;
  size_t width_;
  std::vector<Set> sets_;
  std::vector<Entry> entries_;  // of all sets
  std::vector<State> rows_;     // by state and class
  std::unordered_multimap<uint64_t, State> by_content_;
  std::vector<Frame> frames_;
  std::unordered_map<uint64_t, uint32_t> by_frame_;

  // The set that is being made.
  std::vector<Entry> seen_;
  std::unordered_map<uint64_t, std::vector<Entry>> seen_hash_;
  std::vector<Entry> open_;
  std::vector<Entry> found_;
  bool found_end_ = false;
};

}  // namespace mllm::grammar

#endif  // MINDIR_LLM_GRAMMAR_STATES_H_
