#include "grammar/matcher.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"
#include "grammar/expressions.h"

namespace mllm::grammar {
namespace {

constexpr size_t kMaskBytes = 8 << 20;     // of all masks of a grammar
constexpr size_t kCollectAbove = 1 << 15;  // states and frames
constexpr size_t kMostLoops = 16;          // bodies of loops whose tokens are known

void set_bit(TokenMask& mask, int32_t id) {
  mask[static_cast<size_t>(id) / 32] |= 1u << (static_cast<uint32_t>(id) % 32);
}

}  // namespace

CompiledGrammar::CompiledGrammar(const Grammar& grammar, std::shared_ptr<const Vocabulary> vocabulary)
    : program_(compile(grammar)),
      vocabulary_(std::move(vocabulary)),
      states_(program_),
      start_(states_.start()),
      path_(Vocabulary::kLongest + 1),
      collect_above_(kCollectAbove) {
  // Now rather than at the first token that needs it.
  for (uint32_t body = 0; body < program_.bodies.size() && body < kMostLoops; ++body) loop_tokens(body);
}

const CompiledGrammar::LoopTokens& CompiledGrammar::loop_tokens(uint32_t body) {
  const auto found = loops_.find(body);
  if (found != loops_.end()) return found->second;
  if (loops_.size() >= kMostLoops) loops_.clear();
  LoopTokens& out = loops_[body];

  // The body as a table; its last node stands between two rounds.
  const Dfa& dfa = program_.bodies[body];
  const auto between = static_cast<uint32_t>(dfa.nodes.size());
  constexpr uint32_t kNone = Program::kNone;
  std::vector<uint32_t> table((size_t{between} + 1) * 256, kNone);
  for (uint32_t i = 0; i <= between; ++i) {
    for (const Edge& e : dfa.nodes[i == between ? 0 : i].bytes) {
      for (uint32_t byte = e.low; byte <= e.high; ++byte)
        table[i * size_t{256} + byte] = dfa.nodes[e.to].accepts ? between : e.to;
    }
  }
  const std::span<const Vocabulary::Node> nodes = vocabulary_->nodes();
  out.all.resize((static_cast<size_t>(vocabulary_->size()) + 31) / 32);
  out.rounds_before.assign(nodes.size(), -1);
  struct Place {
    uint32_t node;
    int16_t begun;
  };
  std::vector<Place> path(Vocabulary::kLongest + 1);
  path[0] = {between, 0};
  std::vector<std::vector<int32_t>> by_rounds;
  for (uint32_t i = 1; i < nodes.size();) {
    const Vocabulary::Node& n = nodes[i];
    const Place from = path[n.depth - 1u];
    if (from.node == between && from.begun) out.rounds_before[i] = from.begun;
    const uint32_t to = table[from.node * size_t{256} + n.label];
    if (to == kNone) {
      // What begins behind an impossible byte needs no look; rounds_before of its label is known.
      i = n.end;
      continue;
    }
    const auto begun = static_cast<int16_t>(from.begun + (from.node == between ? 1 : 0));
    path[n.depth] = {to, begun};
    if (n.n_tokens) {
      if (by_rounds.size() <= static_cast<size_t>(begun)) by_rounds.resize(static_cast<size_t>(begun) + 1);
      for (const int32_t id : vocabulary_->tokens_of(n)) {
        by_rounds[static_cast<size_t>(begun)].push_back(id);
        set_bit(out.all, id);
      }
    }
    ++i;
  }
  for (const std::vector<int32_t>& ids : by_rounds) {
    out.tokens.insert(out.tokens.end(), ids.begin(), ids.end());
    out.up_to.push_back(static_cast<uint32_t>(out.tokens.size()));
  }
  return out;
}

void CompiledGrammar::add_tokens(const Vocabulary::Node& node, Only only, TokenMask& mask) const {
  for (const int32_t id : vocabulary_->tokens_of(node)) {
    if (only == Only::All || vocabulary_->loses_first_blank(id) == (only == Only::Stripped))
      set_bit(mask, id);
  }
}

void CompiledGrammar::walk(uint32_t node, State state, Only only, TokenMask& mask) {
  const std::span<const Vocabulary::Node> nodes = vocabulary_->nodes();
  path_[nodes[node].depth] = state;
  const uint32_t end = node ? nodes[node].end : static_cast<uint32_t>(nodes.size());
  for (uint32_t i = node + 1; i < end;) {
    const Vocabulary::Node& n = nodes[i];
    const State next = states_.step(path_[n.depth - 1u], program_.class_of[n.label]);
    if (next == kDead) {
      i = n.end;
      continue;
    }
    path_[n.depth] = next;
    if (n.n_tokens) add_tokens(n, only, mask);
    ++i;
  }
}

void CompiledGrammar::add_loop(const States::Entry& entry, TokenMask& mask) {
  const Program::Loop& loop = program_.loops[program_.nodes[entry.node].loop];
  const LoopTokens& known = loop_tokens(loop.body);
  const uint32_t left = loop.most == kUnlimited ? kUnlimited : loop.most - entry.rounds;
  const uint32_t needed = loop.least > entry.rounds ? loop.least - entry.rounds : 0;
  // Tokens that stay within the loop.
  if (left + size_t{1} >= known.up_to.size()) {
    for (size_t i = 0; i < mask.size(); ++i) mask[i] |= known.all[i];
  } else {
    for (uint32_t i = 0; i < known.up_to[left]; ++i) set_bit(mask, known.tokens[i]);
  }
  // Tokens that leave it after at least one round; the others need no look at the loop.
  const State after = states_.after(entry.below);
  for (size_t c = 0; c < program_.first_byte.size(); ++c) {
    const State next = states_.step(after, static_cast<uint8_t>(c));
    if (next == kDead) continue;
    const uint32_t end = c + 1 < program_.first_byte.size() ? program_.first_byte[c + 1] : 256u;
    for (uint32_t byte = program_.first_byte[c]; byte < end; ++byte) {
      for (const uint32_t node : vocabulary_->labelled(static_cast<uint8_t>(byte))) {
        if (known.rounds_before[node] < 1) continue;
        const auto rounds = static_cast<uint32_t>(known.rounds_before[node]);
        if (rounds < needed || rounds > left) continue;
        add_tokens(vocabulary_->nodes()[node], Only::All, mask);
        walk(node, next, Only::All, mask);
      }
    }
  }
}

void CompiledGrammar::compute_mask(State state, bool at_start, TokenMask& mask) {
  const std::span<const States::Entry> all = states_.entries(state);
  if (at_start && vocabulary_->has_such()) {
    walk(0, state, Only::Whole, mask);
    for (const uint32_t node : vocabulary_->labelled(' ')) {
      if (vocabulary_->nodes()[node].depth == 1) walk(node, state, Only::Stripped, mask);
    }
    return;
  }
  std::vector<States::Entry> loops;
  std::vector<States::Entry> others;
  for (const States::Entry& e : all)
    (program_.nodes[e.node].loop != Program::kNone ? loops : others).push_back(e);
  if (loops.empty()) {
    walk(0, state, Only::All, mask);
    return;
  }
  for (const States::Entry& e : loops) add_loop(e, mask);
  if (!others.empty()) walk(0, states_.of(std::move(others), false), Only::All, mask);
}

const TokenMask& CompiledGrammar::mask(State state, bool at_start) {
  const uint64_t key = uint64_t{state} << 1 | (at_start && vocabulary_->has_such());
  const auto found = mask_numbers_.find(key);
  if (found != mask_numbers_.end()) return *masks_[found->second];
  auto mask = std::make_unique<TokenMask>((static_cast<size_t>(vocabulary_->size()) + 31) / 32);
  compute_mask(state, at_start, *mask);
  if ((masks_.size() + 1) * mask->size() * sizeof(uint32_t) > kMaskBytes) {
    masks_.clear();
    mask_keys_.clear();
    mask_numbers_.clear();
  }
  mask_numbers_.emplace(key, static_cast<uint32_t>(masks_.size()));
  mask_keys_.push_back({state, (key & 1) != 0});
  masks_.push_back(std::move(mask));
  return *masks_.back();
}

void CompiledGrammar::collect_if_large() {
  if (states_.size() <= collect_above_) return;
  std::vector<State*> kept = {&start_};
  for (Matcher* m : matchers_) kept.push_back(&m->state_);
  for (Key& k : mask_keys_) kept.push_back(&k.state);
  states_.collect(kept);
  if (states_.size() > kCollectAbove / 2) {
    // Masks hold on to too much.
    masks_.clear();
    mask_keys_.clear();
    kept.resize(1 + matchers_.size());
    states_.collect(kept);
  }
  mask_numbers_.clear();
  for (uint32_t i = 0; i < mask_keys_.size(); ++i)
    mask_numbers_.emplace(uint64_t{mask_keys_[i].state} << 1 | mask_keys_[i].at_start, i);
  collect_above_ = std::max(kCollectAbove, 2 * states_.size());
}

Matcher::Matcher(std::shared_ptr<CompiledGrammar> grammar, std::vector<int32_t> end_tokens)
    : grammar_(std::move(grammar)), end_tokens_(std::move(end_tokens)) {
  for (const int32_t id : end_tokens_) {
    if (id < 0 || id >= 1 << 24) fail_argument("end token " + std::to_string(id) + " is no token id");
  }
  const std::lock_guard lock(grammar_->mutex_);
  state_ = grammar_->start_;
  grammar_->matchers_.push_back(this);
}

Matcher::Matcher(const Matcher& other)
    : grammar_(other.grammar_),
      end_tokens_(other.end_tokens_),
      at_start_(other.at_start_),
      may_be_blank_(other.may_be_blank_),
      ended_(other.ended_) {
  const std::lock_guard lock(grammar_->mutex_);
  state_ = other.state_;
  grammar_->matchers_.push_back(this);
}

Matcher::~Matcher() {
  const std::lock_guard lock(grammar_->mutex_);
  std::erase(grammar_->matchers_, this);
}

bool Matcher::is_end_token(int32_t token) const {
  return std::find(end_tokens_.begin(), end_tokens_.end(), token) != end_tokens_.end();
}

bool Matcher::can_end() const {
  const std::lock_guard lock(grammar_->mutex_);
  return ended_ || grammar_->states_.accepts(state_);
}

bool Matcher::must_end() const {
  const std::lock_guard lock(grammar_->mutex_);
  return ended_ || grammar_->states_.entries(state_).empty();
}

void Matcher::reset() {
  const std::lock_guard lock(grammar_->mutex_);
  state_ = grammar_->start_;
  at_start_ = true;
  may_be_blank_ = true;
  ended_ = false;
}

void Matcher::accept(int32_t token) {
  const std::lock_guard lock(grammar_->mutex_);
  CompiledGrammar& g = *grammar_;
  g.collect_if_large();
  const auto refuse = [&] {
    fail_argument("token " + std::to_string(token) + " is not allowed by the grammar here");
  };
  if (ended_) refuse();
  if (is_end_token(token) && g.states_.accepts(state_)) {
    ended_ = true;
    return;
  }
  if (token < 0 || token >= g.vocabulary_->size()) refuse();
  std::string_view bytes = g.vocabulary_->bytes(token);
  if (at_start_ && !bytes.empty() && g.vocabulary_->loses_first_blank(token)) bytes.remove_prefix(1);
  if (bytes.empty()) {
    if (!at_start_ || !may_be_blank_ || g.vocabulary_->bytes(token).empty()) refuse();
    at_start_ = g.vocabulary_->loses_all_blanks();
    may_be_blank_ = false;
    return;
  }
  State state = state_;
  for (const char c : bytes) {
    state = g.states_.step(state, g.program_.class_of[static_cast<uint8_t>(c)]);
    if (state == kDead) refuse();
  }
  state_ = state;
  at_start_ = false;
}

size_t Matcher::accept_text(std::string_view text) {
  const std::lock_guard lock(grammar_->mutex_);
  CompiledGrammar& g = *grammar_;
  if (ended_) return 0;
  size_t taken = 0;
  for (const char c : text) {
    // A long text may come to many states.
    g.collect_if_large();
    const State next = g.states_.step(state_, g.program_.class_of[static_cast<uint8_t>(c)]);
    if (next == kDead) break;
    state_ = next;
    ++taken;
  }
  if (taken) at_start_ = false;
  return taken;
}

std::span<const uint32_t> Matcher::mask() {
  const std::lock_guard lock(grammar_->mutex_);
  CompiledGrammar& g = *grammar_;
  g.collect_if_large();
  if (ended_) {
    mask_.assign((static_cast<size_t>(g.vocabulary_->size()) + 31) / 32, 0);
    return mask_;
  }
  const TokenMask& known = g.mask(state_, at_start_);
  mask_.assign(known.begin(), known.end());
  if (at_start_ && may_be_blank_ && !g.states_.entries(state_).empty()) {
    for (const int32_t id : g.vocabulary_->blank_tokens()) set_bit(mask_, id);
  }
  if (g.states_.accepts(state_)) {
    for (const int32_t id : end_tokens_) {
      if (static_cast<size_t>(id) / 32 >= mask_.size()) mask_.resize(static_cast<size_t>(id) / 32 + 1);
      set_bit(mask_, id);
    }
  } else if (std::all_of(mask_.begin(), mask_.end(), [](uint32_t word) { return word == 0; })) {
    fail_argument("no token of the vocabulary goes on with the grammar here, and the text may not end yet");
  }
  return mask_;
}

}  // namespace mllm::grammar
