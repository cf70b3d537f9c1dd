#include <algorithm>
#include <functional>
#include <string>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "grammar/program.h"

namespace mllm::grammar {
namespace {

constexpr uint32_t kNone = Program::kNone;
constexpr size_t kInlineSize = 64;    // rules up to this size become part of their callers
constexpr size_t kBodySize = 256;     // bodies of loops
constexpr int kInlineDepth = 48;      // rules within rules
constexpr size_t kCopiesSize = 4096;  // larger repetitions of large parts call a rule for the part
constexpr size_t kMostNodes = 1'000'000;
constexpr uint32_t kWide = 20;        // bodies that may begin with so many bytes are worth a loop
constexpr uint32_t kManyRounds = 64;  // and so are these, whatever they begin with

// What a grammar's rules refer to.
class Analysis {
 public:
  explicit Analysis(const Grammar& g)
      : grammar_(g), rules_(g.rules().size()), sizes_(g.size()), full_sizes_(g.size()), seen_(g.size()) {
    for (uint32_t r = 0; r < rules_.size(); ++r) collect(r);
    order();
  }

  bool is_inlined(uint32_t rule) const { return is_regular(rule) && rules_[rule].size <= kInlineSize; }
  // Refers to no recursive rule, however indirectly.
  bool is_regular(uint32_t rule) const { return rules_[rule].regular; }
  bool is_regular_expression(Expression e) {
    std::vector<Expression> open = {e};
    ++round_;
    while (!open.empty()) {
      const Expression at = open.back();
      open.pop_back();
      if (seen_[at] == round_) continue;
      seen_[at] = round_;
      const Grammar::Node& n = grammar_.node(at);
      if (n.kind == Grammar::Kind::Rule && !is_regular(n.first)) return false;
      if (has_parts(n))
        for (uint32_t i = 0; i < n.count; ++i) open.push_back(grammar_.part(n, i));
    }
    return true;
  }

  // About how many nodes the expression becomes, with calls of rules that are not inlined.
  size_t size(Expression e) { return size(e, sizes_, false); }
  // … with all rules inlined; kMostSize where that cannot be.
  size_t full_size(Expression e) { return size(e, full_sizes_, true); }

  static constexpr size_t kMostSize = 1u << 30;  // sizes do not count further

 private:
  struct RuleFacts {
    std::vector<uint32_t> refers;
    bool regular = false;
    size_t size = kMostSize, full_size = kMostSize;
    int depth = 0;
  };

  static bool has_parts(const Grammar::Node& n) {
    using Kind = Grammar::Kind;
    return n.kind != Kind::Text && n.kind != Kind::Chars && n.kind != Kind::Rule && n.kind != Kind::Machine;
  }

  size_t size(Expression e, std::vector<size_t>& known, bool is_full) {
    if (known[e]) return known[e];
    const Grammar::Node& n = grammar_.node(e);
    size_t total = 1;
    switch (n.kind) {
      case Grammar::Kind::Text:
        total += n.count;
        break;
      case Grammar::Kind::Chars:
        total += 2 * grammar_.chars(n).size();
        break;
      case Grammar::Kind::Machine:
        total += grammar_.machine(n).nodes.size();
        break;
      case Grammar::Kind::Rule:
        total += is_full ? rules_[n.first].full_size : is_inlined(n.first) ? rules_[n.first].size : 1;
        break;
      default:
        for (uint32_t i = 0; i < n.count; ++i) total += size(grammar_.part(n, i), known, is_full);
        if (n.kind == Grammar::Kind::Repeat) {
          const size_t copies = n.most == kUnlimited ? n.least + size_t{1} : n.most;
          total = total > kMostSize / std::max<size_t>(copies, 1) ? kMostSize : total * copies + 1;
        }
    }
    return known[e] = std::min(total, kMostSize);
  }

  void collect(uint32_t rule) {
    ++round_;
    std::vector<Expression> open = {grammar_.rules()[rule].body};
    while (!open.empty()) {
      const Expression at = open.back();
      open.pop_back();
      if (seen_[at] == round_) continue;
      seen_[at] = round_;
      const Grammar::Node& n = grammar_.node(at);
      if (n.kind == Grammar::Kind::Rule) rules_[rule].refers.push_back(n.first);
      if (has_parts(n))
        for (uint32_t i = 0; i < n.count; ++i) open.push_back(grammar_.part(n, i));
    }
  }

  // Walks through the rules, what they refer to first. A rule that is met again on its own path is recursive,
  // and so is all that refers to it.
  void order() {
    enum : uint8_t { New, Open, Done };
    std::vector<uint8_t> state(rules_.size(), New);
    std::vector<std::pair<uint32_t, size_t>> path;
    for (uint32_t root = 0; root < rules_.size(); ++root) {
      if (state[root] != New) continue;
      path.emplace_back(root, 0);
      state[root] = Open;
      while (!path.empty()) {
        auto& [rule, next] = path.back();
        if (next < rules_[rule].refers.size()) {
          const uint32_t to = rules_[rule].refers[next++];
          if (state[to] == New) {
            state[to] = Open;
            path.emplace_back(to, 0);
          }
          continue;
        }
        RuleFacts& facts = rules_[rule];
        facts.regular = true;
        for (const uint32_t to : facts.refers) {
          // One that is still open is on the path: a cycle.
          if (state[to] != Done || !rules_[to].regular) facts.regular = false;
          facts.depth = std::max(facts.depth, rules_[to].depth + 1);
        }
        if (facts.depth > kInlineDepth) facts.regular = false;
        state[rule] = Done;
        if (facts.regular) {
          facts.size = size(grammar_.rules()[rule].body);
          facts.full_size = full_size(grammar_.rules()[rule].body);
        }
        path.pop_back();
      }
    }
  }

  const Grammar& grammar_;
  std::vector<RuleFacts> rules_;
  std::vector<size_t> sizes_, full_sizes_;
  std::vector<uint32_t> seen_;
  uint32_t round_ = 0;
};

// One rule while it is made.
struct RuleAutomaton {
  std::string name;
  Dfa dfa;
  bool is_loop = false;  // then dfa is the body
  uint32_t least = 0, most = 0;
  uint32_t body = 0;  // of a loop: its number
};

class Compiler {
 public:
  explicit Compiler(const Grammar& g) : grammar_(g), analysis_(g) {}

  Program compile() {
    // Numbers of rules here are not those of the grammar: parts of repetitions become rules, inlined ones
    // none.
    const uint32_t root = number_of_rule(grammar_.root);
    for (size_t i = 0; i < todo_.size(); ++i) {
      const auto [number, body] = todo_[i];
      Dfa dfa = automaton(body, true);
      count_nodes(dfa);
      rules_[number].dfa = std::move(dfa);
    }
    drop_unproductive();
    if (rules_[root].dfa.nodes.size() == 1 && !rules_[root].dfa.nodes[0].accepts &&
        rules_[root].dfa.nodes[0].calls.empty()) {
      fail_argument("the grammar matches no text at all");
    }
    refuse_left_recursion();
    return flatten(root);
  }

  Dfa regular(Expression e) {
    if (!analysis_.is_regular_expression(e)) fail_argument("a pattern refers to a recursive rule");
    return automaton(e, false);
  }

 private:
  void count_nodes(const Dfa& dfa) {
    total_ += dfa.nodes.size();
    if (total_ > kMostNodes) fail_argument("the grammar is too large: more than a million states");
  }

  uint32_t new_rule(std::string name) {
    rules_.push_back({std::move(name), {}});
    return static_cast<uint32_t>(rules_.size() - 1);
  }

  uint32_t number_of_rule(uint32_t rule) {
    const auto [at, is_new] = rule_numbers_.try_emplace(rule, 0);
    if (is_new) {
      at->second = new_rule(grammar_.rules()[rule].name);
      todo_.emplace_back(at->second, grammar_.rules()[rule].body);
    }
    return at->second;
  }

  uint32_t number_of_part(Expression e) {
    const auto [at, is_new] = part_numbers_.try_emplace(e, 0);
    if (is_new) {
      at->second = new_rule("a repeated part");
      todo_.emplace_back(at->second, e);
    }
    return at->second;
  }

  // ---- Expressions to automata

  // Paths are built from their end to their beginning; equal expressions before the same node are one path.
  struct Build {
    Nfa nfa;
    bool with_calls;
    std::unordered_map<uint64_t, uint32_t> known;
  };

  Dfa automaton(Expression e, bool with_calls) {
    Build b;
    b.with_calls = with_calls;
    const uint32_t end = b.nfa.add();
    const uint32_t start = build(b, e, end);
    return determinize(b.nfa, start, end);
  }

  // The node from which the expression leads to `next`.
  uint32_t build(Build& b, Expression e, uint32_t next) {
    const auto found = b.known.find(uint64_t{e} << 32 | next);
    if (found != b.known.end()) return found->second;
    const uint32_t node = build_new(b, e, next);
    b.known.emplace(uint64_t{e} << 32 | next, node);
    return node;
  }

  uint32_t build_new(Build& b, Expression e, uint32_t next) {
    const Grammar::Node& n = grammar_.node(e);
    switch (n.kind) {
      case Grammar::Kind::Text: {
        const std::string_view text = grammar_.text(n);
        for (size_t i = text.size(); i-- > 0;) {
          const uint32_t node = b.nfa.add();
          const auto byte = static_cast<uint8_t>(text[i]);
          b.nfa.nodes[node].bytes.push_back({byte, byte, next});
          next = node;
        }
        return next;
      }
      case Grammar::Kind::Chars: {
        const uint32_t node = b.nfa.add();
        b.nfa.add_chars(node, next, grammar_.chars(n));
        return node;
      }
      case Grammar::Kind::Sequence:
        for (uint32_t i = n.count; i-- > 0;) next = build(b, grammar_.part(n, i), next);
        return next;
      case Grammar::Kind::Choice: {
        const uint32_t node = b.nfa.add();
        for (uint32_t i = 0; i < n.count; ++i) {
          const uint32_t start = build(b, grammar_.part(n, i), next);
          b.nfa.nodes[node].empty.push_back(start);
        }
        return node;
      }
      case Grammar::Kind::Repeat:
        return repeat(b, e, next);
      case Grammar::Kind::Rule:
        if (!b.with_calls || analysis_.is_inlined(n.first))
          return build(b, grammar_.rules()[n.first].body, next);
        return call(b, number_of_rule(n.first), next);
      case Grammar::Kind::Machine:
        return embed(b, grammar_.machine(n), next);
      case Grammar::Kind::Both:
      case Grammar::Kind::Without: {
        const Dfa left = regular(grammar_.part(n, 0));
        const Dfa right = regular(grammar_.part(n, 1));
        return embed(b, n.kind == Grammar::Kind::Both ? both(left, right) : without(left, right), next);
      }
    }
    fail_internal("an expression of an unknown kind");
  }

  uint32_t call(Build& b, uint32_t rule, uint32_t next) {
    const uint32_t node = b.nfa.add();
    b.nfa.nodes[node].calls.push_back({rule, next});
    return node;
  }

  uint32_t embed(Build& b, const Dfa& dfa, uint32_t next) {
    std::vector<uint32_t> numbers;
    for (size_t i = 0; i < dfa.nodes.size(); ++i) numbers.push_back(b.nfa.add());
    for (size_t i = 0; i < dfa.nodes.size(); ++i) {
      for (const Edge& e : dfa.nodes[i].bytes)
        b.nfa.nodes[numbers[i]].bytes.push_back({e.low, e.high, numbers[e.to]});
      if (dfa.nodes[i].accepts) b.nfa.nodes[numbers[i]].empty.push_back(next);
    }
    return numbers[0];
  }

  uint32_t repeat(Build& b, Expression e, uint32_t next) {
    const Grammar::Node n = grammar_.node(e);
    const Expression part = grammar_.part(n, 0);
    if (n.most == 0) return next;
    if (b.with_calls) {
      if (const uint32_t loop = loop_rule(part, n.least, n.most); loop != kNone) return call(b, loop, next);
    }
    const size_t copies = n.most == kUnlimited ? n.least + size_t{1} : n.most;
    const bool as_call =
        b.with_calls && copies > 1 && analysis_.size(part) > 1 && analysis_.size(part) > kCopiesSize / copies;
    const auto once = [&](uint32_t to) {
      return as_call ? call(b, number_of_part(part), to) : build(b, part, to);
    };
    uint32_t node = next;
    if (n.most == kUnlimited) {
      node = b.nfa.add();
      const uint32_t round = once(node);
      b.nfa.nodes[node].empty = {round, next};
    } else {
      for (uint32_t i = n.least; i < n.most; ++i) {
        const uint32_t round = once(node);
        node = b.nfa.add();
        b.nfa.nodes[node].empty = {round, next};
      }
    }
    for (uint32_t i = 0; i < n.least; ++i) node = once(node);
    return node;
  }

  // The rule that counts rounds of `part`, or kNone where they are better written out.
  uint32_t loop_rule(Expression part, uint32_t least, uint32_t most) {
    if (most != kUnlimited && most < 3) return kNone;
    const auto [at, is_new] = part_bodies_.try_emplace(part, kNone);
    if (is_new && analysis_.full_size(part) <= kBodySize) {
      Dfa dfa = automaton(part, false);
      uint32_t first = 0;
      bool is_certain = true;
      for (const Dfa::Node& n : dfa.nodes) is_certain &= !n.accepts || n.bytes.empty();
      for (const Edge& e : dfa.nodes[0].bytes) first += e.high - e.low + 1u;
      if (is_certain && first > 0) {
        size_t number = 0;
        while (number < bodies_.size() && !(bodies_[number] == dfa)) ++number;
        if (number == bodies_.size()) {
          bodies_.push_back(std::move(dfa));
          widths_.push_back(first);
        }
        at->second = static_cast<uint32_t>(number);
      }
    }
    const uint32_t body = at->second;
    if (body == kNone) return kNone;
    const bool many = most == kUnlimited ? least >= kManyRounds : most >= kManyRounds;
    if (widths_[body] < kWide && !many) return kNone;
    for (const uint32_t rule : loop_rules_) {
      if (rules_[rule].body == body && rules_[rule].least == least && rules_[rule].most == most) return rule;
    }
    const uint32_t rule = new_rule("a repetition");
    rules_[rule] = {"a repetition", bodies_[body], true, least, most, body};
    count_nodes(bodies_[body]);
    loop_rules_.push_back(rule);
    return rule;
  }

  // ---- Facts about rules

  // The nodes that can be reached over edges, if these count, and over calls of rules for which `passes`
  // holds, each once, until `visit` says that it has seen enough; whether it did.
  template <class Passes, class Visit>
  static bool walk(const Dfa& dfa, bool over_bytes, const Passes& passes, const Visit& visit) {
    std::vector<bool> seen(dfa.nodes.size());
    std::vector<uint32_t> open = {0};
    while (!open.empty()) {
      const uint32_t at = open.back();
      open.pop_back();
      if (seen[at]) continue;
      seen[at] = true;
      const Dfa::Node& n = dfa.nodes[at];
      if (visit(n)) return true;
      if (over_bytes)
        for (const Edge& e : n.bytes) open.push_back(e.to);
      for (const Call& c : n.calls)
        if (passes(c.rule)) open.push_back(c.to);
    }
    return false;
  }

  // The smallest set of rules that reach their end over each other.
  std::vector<bool> that_reach_end(bool over_bytes) {
    std::vector<std::vector<uint32_t>> callers(rules_.size());
    std::vector<uint32_t> open;
    for (uint32_t r = 0; r < rules_.size(); ++r) {
      for (const Dfa::Node& n : rules_[r].dfa.nodes)
        for (const Call& c : n.calls) callers[c.rule].push_back(r);
      open.push_back(r);
    }
    std::vector<bool> found(rules_.size());
    for (size_t i = 0; i < open.size(); ++i) {
      const uint32_t r = open[i];
      if (found[r]) continue;
      found[r] = rules_[r].is_loop ? rules_[r].least == 0 || over_bytes
                                   : walk(
                                         rules_[r].dfa, over_bytes, [&](uint32_t c) { return found[c]; },
                                         [](const Dfa::Node& n) { return n.accepts; });
      if (!found[r]) continue;
      std::vector<uint32_t>& list = callers[r];
      std::sort(list.begin(), list.end());
      list.erase(std::unique(list.begin(), list.end()), list.end());
      open.insert(open.end(), list.begin(), list.end());
    }
    return found;
  }

  void drop_unproductive() {
    const std::vector<bool> productive = that_reach_end(true);
    for (RuleAutomaton& rule : rules_) {
      if (rule.is_loop) continue;
      bool changed = false;
      for (Dfa::Node& n : rule.dfa.nodes)
        changed |= std::erase_if(n.calls, [&](const Call& c) { return !productive[c.rule]; }) != 0;
      if (changed) tidy(rule.dfa);
    }
  }

  // A rule that calls itself before any byte would do so for ever.
  void refuse_left_recursion() {
    const std::vector<bool> nullable = that_reach_end(false);
    std::vector<std::vector<uint32_t>> first(rules_.size());
    for (uint32_t r = 0; r < rules_.size(); ++r) {
      if (rules_[r].is_loop) continue;
      walk(
          rules_[r].dfa, false, [&](uint32_t c) { return nullable[c]; },
          [&](const Dfa::Node& n) {
            for (const Call& c : n.calls) first[r].push_back(c.rule);
            return false;
          });
    }
    enum : uint8_t { New, Open, Done };
    std::vector<uint8_t> state(rules_.size(), New);
    std::vector<std::pair<uint32_t, size_t>> path;
    for (uint32_t root = 0; root < rules_.size(); ++root) {
      if (state[root] != New) continue;
      state[root] = Open;
      path.emplace_back(root, 0);
      while (!path.empty()) {
        auto& [rule, next] = path.back();
        if (next == first[rule].size()) {
          state[rule] = Done;
          path.pop_back();
          continue;
        }
        const uint32_t to = first[rule][next++];
        if (state[to] == Open) {
          fail_argument(
              "the rule \"" + rules_[to].name +
              "\" is left recursive: it calls itself before any character; write a repetition, such as "
              "item (\",\" item)*");
        }
        if (state[to] == New) {
          state[to] = Open;
          path.emplace_back(to, 0);
        }
      }
    }
  }

  // ---- Tables

  Program flatten(uint32_t root) {
    // Only what can be reached from the root.
    std::vector<bool> used(rules_.size());
    std::vector<uint32_t> order = {root};
    used[root] = true;
    for (size_t i = 0; i < order.size(); ++i) {
      if (rules_[order[i]].is_loop) continue;
      for (const Dfa::Node& n : rules_[order[i]].dfa.nodes) {
        for (const Call& c : n.calls) {
          if (used[c.rule]) continue;
          used[c.rule] = true;
          order.push_back(c.rule);
        }
      }
    }

    Program p;
    std::array<bool, 257> cut{};
    std::vector<uint32_t> base(rules_.size());
    uint32_t next = 0;
    for (const uint32_t r : order) {
      base[r] = next;
      next += static_cast<uint32_t>(rules_[r].dfa.nodes.size() + (rules_[r].is_loop ? 1 : 0));
      for (const Dfa::Node& n : rules_[r].dfa.nodes)
        for (const Edge& e : n.bytes) cut[e.low] = cut[e.high + 1] = true;
    }
    cut[0] = true;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      if (cut[byte]) p.first_byte.push_back(static_cast<uint8_t>(byte));
      p.class_of[byte] = static_cast<uint8_t>(p.first_byte.size() - 1);
    }
    const auto add_edge = [&](const Edge& e, uint32_t to) {
      p.edges.push_back({p.class_of[e.low], p.class_of[e.high], to});
    };
    std::vector<uint32_t> body_numbers(bodies_.size(), kNone);
    for (const uint32_t r : order) {
      const Dfa& dfa = rules_[r].dfa;
      if (!rules_[r].is_loop) {
        for (const Dfa::Node& n : dfa.nodes) {
          Program::Node out;
          out.accepts = n.accepts;
          out.edges = static_cast<uint32_t>(p.edges.size());
          for (const Edge& e : n.bytes) add_edge(e, base[r] + e.to);
          out.n_edges = static_cast<uint32_t>(p.edges.size()) - out.edges;
          out.calls = static_cast<uint32_t>(p.calls.size());
          for (const Call& c : n.calls) {
            const Dfa::Node& back = dfa.nodes[c.to];
            const bool is_last = back.accepts && back.bytes.empty() && back.calls.empty();
            p.calls.push_back({base[c.rule], is_last ? kNone : base[r] + c.to});
          }
          out.n_calls = static_cast<uint32_t>(p.calls.size()) - out.calls;
          p.nodes.push_back(out);
        }
        continue;
      }
      // The node between two rounds, then the body. What ends the body leads to the former.
      uint32_t& body = body_numbers[rules_[r].body];
      if (body == kNone) {
        body = static_cast<uint32_t>(p.bodies.size());
        p.bodies.push_back(dfa);
      }
      const auto loop = static_cast<uint32_t>(p.loops.size());
      p.loops.push_back({rules_[r].least, rules_[r].most, base[r], body});
      for (size_t i = 0; i <= dfa.nodes.size(); ++i) {
        const Dfa::Node& n = dfa.nodes[i ? i - 1 : 0];
        Program::Node out;
        if (!i) {
          out.loop = loop;
          out.accepts = true;
        }
        out.edges = static_cast<uint32_t>(p.edges.size());
        for (const Edge& e : n.bytes) add_edge(e, dfa.nodes[e.to].accepts ? base[r] : base[r] + 1 + e.to);
        out.n_edges = static_cast<uint32_t>(p.edges.size()) - out.edges;
        p.nodes.push_back(out);
      }
    }
    p.start = base[root];
    return p;
  }

  const Grammar& grammar_;
  Analysis analysis_;
  std::vector<RuleAutomaton> rules_;
  std::vector<std::pair<uint32_t, Expression>> todo_;
  std::unordered_map<uint32_t, uint32_t> rule_numbers_;
  std::unordered_map<Expression, uint32_t> part_numbers_;
  std::unordered_map<Expression, uint32_t> part_bodies_;
  std::vector<Dfa> bodies_;
  std::vector<uint32_t> widths_;  // bytes with which each body may begin
  std::vector<uint32_t> loop_rules_;
  size_t total_ = 0;
};

}  // namespace

Program compile(const Grammar& grammar) {
  return Compiler(grammar).compile();
}

Dfa automaton_of(const Grammar& grammar, Expression e) {
  return Compiler(grammar).regular(e);
}

}  // namespace mllm::grammar
