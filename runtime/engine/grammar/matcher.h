// Following a grammar token by token, and saying which tokens may come next.
#ifndef MINDIR_LLM_GRAMMAR_MATCHER_H_
#define MINDIR_LLM_GRAMMAR_MATCHER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "grammar/program.h"
#include "grammar/states.h"
#include "grammar/vocabulary.h"

namespace mllm::grammar {

// A bit for each token id: bit id % 32 of word id / 32.
using TokenMask = std::vector<uint32_t>;

class Matcher;

// A grammar over a vocabulary, with what was found out about them so far. Matchers share it, and may be used
// by different threads.
class CompiledGrammar {
 public:
  CompiledGrammar(const Grammar& grammar, std::shared_ptr<const Vocabulary> vocabulary);

  const Vocabulary& vocabulary() const { return *vocabulary_; }

 private:
  friend class Matcher;

  // Which tokens are rounds of a loop's body and nothing else, whatever surrounds the loop.
  struct LoopTokens {
    TokenMask all;
    std::vector<int32_t> tokens;  // by the number of rounds that they begin
    std::vector<uint32_t> up_to;  // how many of them begin at most so many rounds
    // By node: how many rounds are complete before its label; -1: not a whole number, or none.
    std::vector<int16_t> rounds_before;
  };
  struct Key {
    State state;
    bool at_start;
    friend bool operator==(const Key&, const Key&) = default;
  };
  enum class Only : uint8_t { All, Whole, Stripped };

  const TokenMask& mask(State state, bool at_start);
  void compute_mask(State state, bool at_start, TokenMask& mask);
  void add_loop(const States::Entry& entry, TokenMask& mask);
  // Adds the tokens below a node that the grammar takes from a state on.
  void walk(uint32_t node, State state, Only only, TokenMask& mask);
  void add_tokens(const Vocabulary::Node& node, Only only, TokenMask& mask) const;
  const LoopTokens& loop_tokens(uint32_t body);
  void collect_if_large();

  Program program_;
  std::shared_ptr<const Vocabulary> vocabulary_;
  std::mutex mutex_;  // of everything below
  States states_;
  State start_;
  std::vector<std::unique_ptr<TokenMask>> masks_;
  std::vector<Key> mask_keys_;
  std::unordered_map<uint64_t, uint32_t> mask_numbers_;
  std::map<uint32_t, LoopTokens> loops_;  // by body
  std::vector<State> path_;               // by depth, while walking
  std::vector<Matcher*> matchers_;
  size_t collect_above_;
};

// One text that is being written.
class Matcher {
 public:
  // end_tokens end a text that the grammar allows to end.
  Matcher(std::shared_ptr<CompiledGrammar> grammar, std::vector<int32_t> end_tokens);
  Matcher(const Matcher& other);
  Matcher& operator=(const Matcher&) = delete;
  ~Matcher();

  // Throws INVALID_ARGUMENT, and nothing changes, for a token that is not allowed.
  void accept(int32_t token);
  // How many bytes of the text the grammar takes; they are accepted.
  size_t accept_text(std::string_view text);
  // The tokens that may come next, valid until the next call. Throws INVALID_ARGUMENT where there is none and
  // the text may not end either.
  std::span<const uint32_t> mask();
  bool can_end() const;   // the text is complete
  bool must_end() const;  // … and nothing may follow
  void reset();           // to the beginning

 private:
  friend class CompiledGrammar;
  bool is_end_token(int32_t token) const;

  std::shared_ptr<CompiledGrammar> grammar_;
  std::vector<int32_t> end_tokens_;
  State state_;
  bool at_start_ = true;      // the next token loses its first blank
  bool may_be_blank_ = true;  // … and may be nothing but that
  bool ended_ = false;        // by an end token
  TokenMask mask_;
};

}  // namespace mllm::grammar

#endif  // MINDIR_LLM_GRAMMAR_MATCHER_H_
