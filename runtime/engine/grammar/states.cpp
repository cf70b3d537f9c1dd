#include "grammar/states.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"

namespace mllm::grammar {
namespace {

// What a single question may find at most; between questions old findings are thrown away.
constexpr size_t kMostStates = 1'000'000;
constexpr size_t kMostFrames = 4'000'000;

uint64_t mix(uint64_t h, uint64_t v) {
  h = (h ^ v) * 0x9e3779b97f4a7c15u;
  return h ^ h >> 32;
}

uint64_t hash_of(const States::Entry& e) {
  return mix(mix(e.node, e.rounds), e.below);
}

}  // namespace

States::States(const Program& program)
    : program_(program), width_(program.first_byte.size()), sets_(1), rows_(width_, kDead), frames_(1) {}

uint64_t States::hash(std::span<const Entry> entries, bool accepts) {
  uint64_t h = accepts;
  for (const Entry& e : entries) h = mix(h, hash_of(e));
  return h;
}

uint32_t States::frame(uint32_t node, uint32_t below) {
  const auto [at, is_new] =
      by_frame_.try_emplace(uint64_t{node} << 32 | below, static_cast<uint32_t>(frames_.size()));
  if (is_new) {
    if (frames_.size() >= kMostFrames) fail_argument("the text nests too deeply for its grammar");
    frames_.push_back({node, below});
  }
  return at->second;
}

void States::close(Entry first) {
  open_.push_back(first);
  while (!open_.empty()) {
    const Entry e = open_.back();
    open_.pop_back();
    if (seen_.size() < 48) {
      if (std::find(seen_.begin(), seen_.end(), e) != seen_.end()) continue;
      seen_.push_back(e);
    } else {
      if (seen_hash_.empty())
        for (const Entry& s : seen_) seen_hash_[hash_of(s)].push_back(s);
      std::vector<Entry>& bucket = seen_hash_[hash_of(e)];
      if (std::find(bucket.begin(), bucket.end(), e) != bucket.end()) continue;
      bucket.push_back(e);
      if (seen_hash_.size() > 4 * kMostEntries)
        fail_argument("the grammar is too ambiguous: the text can be read in too many ways at once");
    }
    const Program::Node& n = program_.nodes[e.node];
    bool accepts = n.accepts;
    bool goes_on = n.n_edges != 0;
    if (n.loop != Program::kNone) {
      const Program::Loop& loop = program_.loops[n.loop];
      accepts = e.rounds >= loop.least;
      goes_on = e.rounds < loop.most;
    }
    if (goes_on) {
      if (found_.size() >= kMostEntries)
        fail_argument("the grammar is too ambiguous: the text can be read in too many ways at once");
      found_.push_back(e);
    }
    if (accepts) {
      if (e.below == 0) {
        found_end_ = true;
      } else {
        open_.push_back({frames_[e.below].node, 0, frames_[e.below].below});
      }
    }
    for (const Program::Call& c : program_.calls_of(n))
      open_.push_back({c.start, 0, c.back == Program::kNone ? e.below : frame(c.back, e.below)});
  }
}

State States::intern() {
  seen_.clear();
  seen_hash_.clear();
  std::vector<Entry> entries = std::move(found_);
  found_.clear();
  return of(std::move(entries), std::exchange(found_end_, false));
}

State States::of(std::vector<Entry> entries, bool accepts) {
  if (entries.empty() && !accepts) return kDead;
  std::sort(entries.begin(), entries.end());
  const uint64_t key = hash(entries, accepts);
  const auto [begin, end] = by_content_.equal_range(key);
  for (auto it = begin; it != end; ++it) {
    const std::span<const Entry> known = this->entries(it->second);
    if (sets_[it->second].accepts == accepts &&
        std::equal(known.begin(), known.end(), entries.begin(), entries.end()))
      return it->second;
  }
  if (sets_.size() >= kMostStates)
    fail_argument("the grammar is too ambiguous: the text can be read in too many ways at once");
  const auto state = static_cast<State>(sets_.size());
  sets_.push_back({static_cast<uint32_t>(entries_.size()), static_cast<uint32_t>(entries.size()), accepts});
  entries_.insert(entries_.end(), entries.begin(), entries.end());
  rows_.resize(rows_.size() + width_, entries.empty() ? kDead : kUnknown);
  by_content_.emplace(key, state);
  return state;
}

State States::start() {
  close({program_.start, 0, 0});
  return intern();
}

State States::after(uint32_t frame) {
  if (frame == 0) {
    found_end_ = true;
  } else {
    close({frames_[frame].node, 0, frames_[frame].below});
  }
  return intern();
}

State States::compute(State state, uint8_t byte_class) {
  const Set set = sets_[state];
  for (uint32_t i = 0; i < set.size; ++i) {
    const Entry e = entries_[set.begin + i];
    for (const Program::Edge& edge : program_.edges_of(program_.nodes[e.node])) {
      if (edge.low > byte_class) break;
      if (edge.high < byte_class) continue;
      Entry next = {edge.to, e.rounds, e.below};
      const uint32_t loop = program_.nodes[edge.to].loop;
      if (loop != Program::kNone) {
        // A round is complete.
        const Program::Loop& l = program_.loops[loop];
        next.rounds = l.most == kUnlimited ? std::min(e.rounds + 1, l.least) : e.rounds + 1;
      }
      close(next);
      break;
    }
  }
  const State next = intern();
  rows_[size_t{state} * width_ + byte_class] = next;
  return next;
}

void States::collect(std::span<State* const> kept) {
  const std::vector<Set> sets = std::move(sets_);
  const std::vector<Entry> entries = std::move(entries_);
  const std::vector<Frame> frames = std::move(frames_);
  sets_.assign(1, {});
  entries_.clear();
  frames_.assign(1, {});
  rows_.assign(width_, kDead);
  by_content_.clear();
  by_frame_.clear();
  std::vector<uint32_t> moved(frames.size(), 0);
  const auto move = [&](uint32_t old) {
    // From the lowest frame that is not there yet upwards.
    std::vector<uint32_t> path;
    for (uint32_t f = old; f && !moved[f]; f = frames[f].below) path.push_back(f);
    while (!path.empty()) {
      const Frame& f = frames[path.back()];
      moved[path.back()] = frame(f.node, moved[f.below]);
      path.pop_back();
    }
    return moved[old];
  };
  for (State* state : kept) {
    if (*state == kDead) continue;
    const Set& set = sets[*state];
    std::vector<Entry> own(entries.begin() + set.begin, entries.begin() + set.begin + set.size);
    for (Entry& e : own) e.below = move(e.below);
    *state = of(std::move(own), set.accepts);
  }
}

}  // namespace mllm::grammar
