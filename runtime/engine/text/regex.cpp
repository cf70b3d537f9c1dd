#include "text/regex.h"

namespace mllm::text {
namespace {

constexpr size_t kMostChoices = 1 << 20;

}  // namespace

bool CharSet::compute(uint32_t code) const {
  bool in = (categories >> static_cast<int>(category(code)) & 1) != 0;
  if (!in && (spaces || non_spaces)) in = is_space(code) ? spaces : non_spaces;
  for (size_t i = 0; !in && i < ranges.size(); ++i) in = ranges[i].first <= code && code <= ranges[i].second;
  return in != negated;
}

bool Regex::holds(const Instruction& i, std::string_view text, size_t at) const {
  switch (i.op) {
    case Op::Look: {
      const bool follows = at < text.size() && sets_[i.a].contains(first_char(text.substr(at)).code);
      return follows != (i.b != 0);
    }
    case Op::LineBegin:
      return at == 0 || text[at - 1] == '\n';
    case Op::LineEnd:
      return at == text.size() || text[at] == '\n';
    case Op::TextBegin:
      return at == 0;
    case Op::TextEnd:
      return at == text.size();
    default:
      return true;
  }
}

bool Regex::Search::next(Match& match) {
  while (place_ < text_.size()) {
    const size_t end = match_at(place_);
    if (end != kNone && end > place_) {
      match = {place_, end};
      place_ = end;
      return true;
    }
    place_ += char_size(text_.substr(place_));
  }
  return false;
}

size_t Regex::Search::match_at(size_t at) {
  if (!over_budget_) {
    const size_t end = match_fast(at);
    if (!over_budget_) return end;
    failed_.assign((regex_.simple_.size() * (text_.size() + 1) + 63) / 64, 0);
  }
  return match_remembering(at);
}

bool Regex::Search::at(size_t place, uint32_t set, size_t& next) const {
  if (place >= text_.size()) return false;
  const auto byte = static_cast<unsigned char>(text_[place]);
  if (byte < 0x80) {
    next = place + 1;
    return regex_.sets_[set].contains(byte);
  }
  const Utf8Char c = first_char(text_.substr(place));
  next = place + c.size;
  return regex_.sets_[set].contains(c.code);
}

size_t Regex::Search::match_fast(size_t begin) {
  choices_.clear();
  uint32_t pc = 0;
  size_t place = begin;
  size_t work = 0;
  while (true) {
    const Instruction& i = regex_.fast_[pc];
    bool good = true;
    switch (i.op) {
      case Op::Match:
        budget_ -= std::min(budget_, work);
        return place;
      case Op::Set:
        good = at(place, i.a, place);
        ++pc;
        break;
      case Op::Run: {
        const uint32_t most = i.mode == Instruction::Lazy ? i.least : i.most;
        size_t end = place;
        size_t low = place;
        uint32_t n = 0;
        for (size_t next = 0; n < most && at(end, i.a, next); ++n) {
          end = next;
          if (n + 1 <= i.least) low = end;
        }
        work += n;
        good = n >= i.least;
        if (!good) break;
        if (i.mode == Instruction::Lazy) {
          // One more each time that what follows fails; rare, so it is left to the simple program.
          if (i.most > i.least) {
            over_budget_ = true;
            return kNone;
          }
        } else if (i.mode == Instruction::Greedy && end > low) {
          choices_.push_back({pc + 1, end, low});
        }
        place = end;
        ++pc;
        break;
      }
      case Op::Split:
        choices_.push_back({i.b, place, place});
        pc = i.a;
        break;
      case Op::Jump:
        pc = i.a;
        break;
      default:
        good = regex_.holds(i, text_, place);
        ++pc;
        break;
    }
    if (++work > budget_ || choices_.size() > kMostChoices) {
      over_budget_ = true;
      return kNone;
    }
    if (good) continue;
    if (choices_.empty()) {
      budget_ -= std::min(budget_, work);
      return kNone;
    }
    Choice& choice = choices_.back();
    pc = choice.pc;
    if (choice.at > choice.low) {
      // A run gives one character back.
      do --choice.at;
      while ((static_cast<unsigned char>(text_[choice.at]) & 0xc0) == 0x80);
      place = choice.at;
      if (choice.at == choice.low) choices_.pop_back();
    } else {
      place = choice.at;
      choices_.pop_back();
    }
  }
}

size_t Regex::Search::match_remembering(size_t begin) {
  const std::vector<Instruction>& code = regex_.simple_;
  choices_.clear();
  uint32_t pc = 0;
  size_t place = begin;
  while (true) {
    const Instruction& i = code[pc];
    const size_t state = place * code.size() + pc;
    uint64_t& word = failed_[state / 64];
    bool good = (word >> (state % 64) & 1) == 0;
    word |= uint64_t{1} << (state % 64);
    if (good) {
      switch (i.op) {
        case Op::Match:
          // What was tried and has not failed lies on the way here; of that, only the end may be seen again.
          for (size_t s = place * code.size(); s < (place + 1) * code.size(); ++s)
            failed_[s / 64] &= ~(uint64_t{1} << (s % 64));
          return place;
        case Op::Set:
          good = at(place, i.a, place);
          ++pc;
          break;
        case Op::Split:
          choices_.push_back({i.b, place, place});
          pc = i.a;
          break;
        case Op::Jump:
          pc = i.a;
          break;
        default:
          good = regex_.holds(i, text_, place);
          ++pc;
          break;
      }
    }
    if (good) continue;
    if (choices_.empty()) return kNone;
    pc = choices_.back().pc;
    place = choices_.back().at;
    choices_.pop_back();
  }
}

}  // namespace mllm::text
