#include "grammar/automaton.h"

#include <algorithm>
#include <array>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "text/utf8.h"

namespace mllm::grammar {
namespace {

constexpr size_t kMostDfaNodes = 200'000;
constexpr size_t kMostWork = 30'000'000;  // about the nodes of all sets together
constexpr uint32_t kNone = 0xffffffff;

[[noreturn]] void fail_size() {
  fail_argument("the grammar is too large: repetitions with large numbers, or patterns that multiply");
}

uint64_t hash_of(const std::vector<uint32_t>& values) {
  uint64_t h = values.size();
  for (const uint32_t v : values) h = (h ^ v) * 0x9e3779b97f4a7c15u ^ h >> 29;
  return h;
}

struct SetHash {
  size_t operator()(const std::vector<uint32_t>& set) const { return hash_of(set); }
};

// Appends an edge behind the others, as part of the last one where it only continues it.
void append(std::vector<Edge>& edges, Edge e) {
  if (!edges.empty() && edges.back().to == e.to && edges.back().high + 1 == e.low) {
    edges.back().high = e.high;
  } else {
    edges.push_back(e);
  }
}

uint32_t target(const std::vector<Edge>& edges, uint8_t byte) {
  for (const Edge& e : edges) {
    if (byte >= e.low && byte <= e.high) return e.to;
  }
  return kNone;
}

Dfa product(const Dfa& a, const Dfa& b, bool is_difference) {
  Dfa out;
  std::unordered_map<uint64_t, uint32_t> known;
  std::vector<std::pair<uint32_t, uint32_t>> pairs;
  const auto id = [&](uint32_t x, uint32_t y) {
    const auto [at, is_new] =
        known.try_emplace(uint64_t{x} << 32 | y, static_cast<uint32_t>(out.nodes.size()));
    if (is_new) {
      if (out.nodes.size() >= kMostDfaNodes) fail_size();
      const bool in_b = y != kNone && b.nodes[y].accepts;
      out.nodes.push_back({a.nodes[x].accepts && in_b != is_difference, {}, {}});
      pairs.emplace_back(x, y);
    }
    return at->second;
  };
  id(0, 0);
  static const std::vector<Edge> kNoEdges;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto [x, y] = pairs[i];
    const std::vector<Edge>& others = y == kNone ? kNoEdges : b.nodes[y].bytes;
    std::vector<Edge> edges;
    for (const Edge& e : a.nodes[x].bytes) {
      // Cut the edge where the other automaton's edges begin and end.
      uint32_t low = e.low;
      while (low <= e.high) {
        uint32_t high = e.high;
        uint32_t to = kNone;
        for (const Edge& f : others) {
          if (f.low <= low && f.high >= low) {
            to = f.to;
            high = std::min<uint32_t>(high, f.high);
            break;
          }
          if (f.low > low) {
            high = std::min<uint32_t>(high, f.low - 1u);
            break;
          }
        }
        if (to != kNone || is_difference) {
          append(edges, {static_cast<uint8_t>(low), static_cast<uint8_t>(high), id(e.to, to)});
        }
        low = high + 1;
      }
    }
    out.nodes[i].bytes = std::move(edges);
  }
  tidy(out);
  return out;
}

// Nodes from which an accepting one can be reached.
std::vector<bool> useful(const Dfa& dfa) {
  std::vector<std::vector<uint32_t>> before(dfa.nodes.size());
  std::vector<uint32_t> open;
  std::vector<bool> found(dfa.nodes.size());
  for (uint32_t i = 0; i < dfa.nodes.size(); ++i) {
    for (const Edge& e : dfa.nodes[i].bytes) before[e.to].push_back(i);
    for (const Call& c : dfa.nodes[i].calls) before[c.to].push_back(i);
    if (dfa.nodes[i].accepts) {
      found[i] = true;
      open.push_back(i);
    }
  }
  while (!open.empty()) {
    const uint32_t node = open.back();
    open.pop_back();
    for (const uint32_t p : before[node]) {
      if (found[p]) continue;
      found[p] = true;
      open.push_back(p);
    }
  }
  return found;
}

// One pass: nodes with the same edges become one. False where there are none.
bool merge_once(Dfa& dfa) {
  std::unordered_map<uint64_t, std::vector<uint32_t>> by_hash;
  std::vector<uint32_t> same(dfa.nodes.size());
  bool any = false;
  for (uint32_t i = 0; i < dfa.nodes.size(); ++i) {
    const Dfa::Node& n = dfa.nodes[i];
    std::vector<uint32_t> content = {n.accepts};
    for (const Edge& e : n.bytes) content.insert(content.end(), {e.low, e.high, e.to});
    content.push_back(kNone);
    for (const Call& c : n.calls) content.insert(content.end(), {c.rule, c.to});
    same[i] = i;
    std::vector<uint32_t>& candidates = by_hash[hash_of(content)];
    for (const uint32_t other : candidates) {
      if (dfa.nodes[other] == n) {
        same[i] = other;
        any = true;
        break;
      }
    }
    if (same[i] == i) candidates.push_back(i);
  }
  if (!any) return false;
  for (Dfa::Node& n : dfa.nodes) {
    std::vector<Edge> edges;
    for (Edge e : n.bytes) {
      e.to = same[e.to];
      append(edges, e);
    }
    n.bytes = std::move(edges);
    for (Call& c : n.calls) c.to = same[c.to];
  }
  return true;
}

}  // namespace

uint32_t Nfa::add() {
  if (nodes.size() >= kMostNodes) fail_size();
  nodes.emplace_back();
  return static_cast<uint32_t>(nodes.size() - 1);
}

void Nfa::add_chars(uint32_t from, uint32_t to, const CharRanges& ranges) {
  // Ranges of one length whose continuation bytes are free from some place on are one path of byte ranges.
  std::array<uint32_t, 4> free_tail = {to, kNone, kNone, kNone};  // then n continuation bytes of any value
  const auto tail = [&](uint32_t n) {
    for (uint32_t i = 1; i <= n; ++i) {
      if (free_tail[i] != kNone) continue;
      free_tail[i] = add();
      nodes[free_tail[i]].bytes.push_back({0x80, 0xbf, free_tail[i - 1]});
    }
    return free_tail[n];
  };
  const auto path = [&](uint32_t low, uint32_t high) {
    std::string a, b;
    text::append_utf8(a, low);
    text::append_utf8(b, high);
    const auto byte = [](const std::string& s, size_t i) { return static_cast<uint8_t>(s[i]); };
    size_t last = 0;  // the last byte that is not free
    for (size_t i = 1; i < a.size(); ++i) {
      if (byte(a, i) != 0x80 || byte(b, i) != 0xbf) last = i;
    }
    uint32_t node = from;
    for (size_t i = 0; i <= last; ++i) {
      const uint32_t next = i == last ? tail(static_cast<uint32_t>(a.size() - 1 - i)) : add();
      nodes[node].bytes.push_back({byte(a, i), byte(b, i), next});
      node = next;
    }
  };
  // Cut so that all bytes but one are the same at both ends, or run over everything.
  const auto split = [&](auto&& self, uint32_t low, uint32_t high) -> void {
    for (const uint32_t limit : {0x7fu, 0x7ffu, 0xffffu}) {
      if (low <= limit && high > limit) {
        self(self, low, limit);
        self(self, limit + 1, high);
        return;
      }
    }
    if (high > 0x7f) {
      for (const int bits : {6, 12, 18}) {
        const uint32_t mask = (1u << bits) - 1;
        if ((low & ~mask) == (high & ~mask)) break;
        if (low & mask) {
          self(self, low, low | mask);
          self(self, (low | mask) + 1, high);
          return;
        }
        if ((high & mask) != mask) {
          self(self, low, (high & ~mask) - 1);
          self(self, high & ~mask, high);
          return;
        }
      }
    }
    path(low, high);
  };
  for (const CharRange& r : ranges) split(split, r.low, r.high);
}

bool Dfa::matches(std::string_view text) const {
  uint32_t node = 0;
  for (const char c : text) {
    node = target(nodes[node].bytes, static_cast<uint8_t>(c));
    if (node == kNone) return false;
  }
  return nodes[node].accepts;
}

Dfa determinize(const Nfa& nfa, uint32_t start, uint32_t end) {
  using Set = std::vector<uint32_t>;
  Dfa dfa;
  std::unordered_map<Set, uint32_t, SetHash> known;
  std::vector<const Set*> sets;  // keys of `known` stay where they are
  std::vector<uint32_t> mark(nfa.nodes.size(), 0);
  uint32_t round = 0;
  size_t work = 0;

  const auto id = [&](const Set& seeds) {
    Set set;
    ++round;
    std::vector<uint32_t> open = seeds;
    while (!open.empty()) {
      const uint32_t node = open.back();
      open.pop_back();
      if (mark[node] == round) continue;
      mark[node] = round;
      set.push_back(node);
      open.insert(open.end(), nfa.nodes[node].empty.begin(), nfa.nodes[node].empty.end());
    }
    work += set.size();
    if (work > kMostWork) fail_size();
    const bool accepts = mark[end] == round;
    // Nodes with nothing but empty edges have done their part.
    std::erase_if(set, [&](uint32_t n) {
      return n != end && nfa.nodes[n].bytes.empty() && nfa.nodes[n].calls.empty();
    });
    std::sort(set.begin(), set.end());
    const auto [at, is_new] = known.try_emplace(std::move(set), static_cast<uint32_t>(dfa.nodes.size()));
    if (is_new) {
      if (dfa.nodes.size() >= kMostDfaNodes) fail_size();
      dfa.nodes.push_back({accepts, {}, {}});
      sets.push_back(&at->first);
    }
    return at->second;
  };

  id({start});
  for (size_t i = 0; i < sets.size(); ++i) {
    std::vector<Edge> edges;
    std::vector<Call> calls;
    for (const uint32_t node : *sets[i]) {
      edges.insert(edges.end(), nfa.nodes[node].bytes.begin(), nfa.nodes[node].bytes.end());
      calls.insert(calls.end(), nfa.nodes[node].calls.begin(), nfa.nodes[node].calls.end());
    }
    std::vector<uint32_t> cuts;
    for (const Edge& e : edges) cuts.insert(cuts.end(), {e.low, e.high + 1u});
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    work += edges.size() * cuts.size() / 16;
    std::vector<Edge> cut_edges;
    for (size_t c = 0; c + 1 < cuts.size(); ++c) {
      Set targets;
      for (const Edge& e : edges) {
        if (e.low <= cuts[c] && e.high + 1u >= cuts[c + 1]) targets.push_back(e.to);
      }
      if (targets.empty()) continue;
      append(cut_edges, {static_cast<uint8_t>(cuts[c]), static_cast<uint8_t>(cuts[c + 1] - 1), id(targets)});
    }
    dfa.nodes[i].bytes = std::move(cut_edges);
    std::sort(calls.begin(), calls.end(), [](const Call& a, const Call& b) { return a.rule < b.rule; });
    std::vector<Call> grouped;
    for (size_t c = 0; c < calls.size();) {
      Set targets;
      const uint32_t rule = calls[c].rule;
      for (; c < calls.size() && calls[c].rule == rule; ++c) targets.push_back(calls[c].to);
      grouped.push_back({rule, id(targets)});
    }
    dfa.nodes[i].calls = std::move(grouped);
  }
  tidy(dfa);
  return dfa;
}

Dfa both(const Dfa& a, const Dfa& b) {
  return product(a, b, false);
}

Dfa without(const Dfa& a, const Dfa& b) {
  return product(a, b, true);
}

void tidy(Dfa& dfa) {
  const std::vector<bool> keep = useful(dfa);
  for (Dfa::Node& n : dfa.nodes) {
    std::erase_if(n.bytes, [&](const Edge& e) { return !keep[e.to]; });
    std::erase_if(n.calls, [&](const Call& c) { return !keep[c.to]; });
  }
  // Ends that are alike are found first; a few passes find what matters.
  for (int pass = 0; pass < 8 && merge_once(dfa);) ++pass;
  // What can be reached, in the order of a walk.
  std::vector<uint32_t> number(dfa.nodes.size(), kNone);
  std::vector<uint32_t> order = {0};
  number[0] = 0;
  const auto visit = [&](uint32_t& to) {
    if (number[to] == kNone) {
      number[to] = static_cast<uint32_t>(order.size());
      order.push_back(to);
    }
    to = number[to];
  };
  Dfa out;
  for (size_t i = 0; i < order.size(); ++i) {
    Dfa::Node n = std::move(dfa.nodes[order[i]]);
    for (Edge& e : n.bytes) visit(e.to);
    for (Call& c : n.calls) visit(c.to);
    out.nodes.push_back(std::move(n));
  }
  dfa = std::move(out);
}

}  // namespace mllm::grammar
