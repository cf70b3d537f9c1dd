#include "grammar/expressions.h"

#include <algorithm>

#include "base/error.h"

namespace mllm::grammar {
namespace {

constexpr uint32_t kLastChar = 0x10ffff;
constexpr CharRange kSurrogates = {0xd800, 0xdfff};

}  // namespace

CharRanges normalized(CharRanges ranges) {
  CharRanges cut;
  for (CharRange r : ranges) {
    r.high = std::min(r.high, kLastChar);
    if (r.low < kSurrogates.low) cut.push_back({r.low, std::min(r.high, kSurrogates.low - 1)});
    if (r.high > kSurrogates.high) cut.push_back({std::max(r.low, kSurrogates.high + 1), r.high});
  }
  std::erase_if(cut, [](const CharRange& r) { return r.low > r.high; });
  std::sort(cut.begin(), cut.end(), [](const CharRange& a, const CharRange& b) { return a.low < b.low; });
  CharRanges out;
  for (const CharRange& r : cut) {
    if (!out.empty() && r.low <= out.back().high + 1) {
      out.back().high = std::max(out.back().high, r.high);
    } else {
      out.push_back(r);
    }
  }
  return out;
}

CharRanges complement(const CharRanges& normalized_ranges) {
  CharRanges out;
  uint32_t next = 0;
  for (const CharRange& r : normalized_ranges) {
    if (r.low > next) out.push_back({next, r.low - 1});
    next = r.high + 1;
  }
  if (next <= kLastChar) out.push_back({next, kLastChar});
  return normalized(std::move(out));
}

Expression Grammar::add(Node node) {
  if (nodes_.size() >= kMostExpressions) {
    fail_argument("the grammar is too large: more than " + std::to_string(kMostExpressions) + " expressions");
  }
  nodes_.push_back(node);
  return static_cast<Expression>(nodes_.size() - 1);
}

Expression Grammar::add(Kind kind, std::span<const Expression> parts) {
  const auto first = static_cast<uint32_t>(parts_.size());
  parts_.insert(parts_.end(), parts.begin(), parts.end());
  return add({kind, first, static_cast<uint32_t>(parts.size())});
}

Expression Grammar::text(std::string_view bytes) {
  const auto first = static_cast<uint32_t>(texts_.size());
  texts_ += bytes;
  return add({Kind::Text, first, static_cast<uint32_t>(bytes.size())});
}

Expression Grammar::chars(std::span<const CharRange> ranges) {
  sets_.push_back(normalized(CharRanges(ranges.begin(), ranges.end())));
  return add({Kind::Chars, static_cast<uint32_t>(sets_.size() - 1), 0});
}

Expression Grammar::sequence(std::span<const Expression> parts) {
  return parts.size() == 1 ? parts[0] : add(Kind::Sequence, parts);
}

Expression Grammar::choice(std::span<const Expression> parts) {
  return parts.size() == 1 ? parts[0] : add(Kind::Choice, parts);
}

Expression Grammar::repeat(Expression part, uint32_t least, uint32_t most) {
  if (least == 1 && most == 1) return part;
  const Expression e = add(Kind::Repeat, std::span(&part, 1));
  nodes_[e].least = least;
  nodes_[e].most = most;
  return e;
}

Expression Grammar::rule(uint32_t number) {
  return add({Kind::Rule, number, 0});
}

Expression Grammar::both(Expression a, Expression b) {
  const Expression parts[] = {a, b};
  return add(Kind::Both, parts);
}

Expression Grammar::without(Expression a, Expression b) {
  const Expression parts[] = {a, b};
  return add(Kind::Without, parts);
}

Expression Grammar::machine(Dfa dfa) {
  machines_.push_back(std::move(dfa));
  return add({Kind::Machine, static_cast<uint32_t>(machines_.size() - 1), 0});
}

uint32_t Grammar::add_rule(std::string name) {
  rules_.push_back({std::move(name)});
  return static_cast<uint32_t>(rules_.size() - 1);
}

void Grammar::define(uint32_t number, Expression body) {
  rules_[number].body = body;
  rules_[number].defined = true;
}

}  // namespace mllm::grammar
