// What runs once for a pattern; regex.cpp has what runs for every character, and is compiled for speed.
#include "base/error.h"
#include "text/regex.h"

namespace mllm::text {
namespace {

constexpr size_t kMostBytes = 1 << 16;
constexpr size_t kMostInstructions = 20000;
constexpr uint32_t kMostRepeats = 1000;
constexpr int kMostDepth = 50;
constexpr uint32_t kLongS = 0x17f, kKelvin = 0x212a;

Categories word_categories() {
  return categories_named("L") | categories_named("M") | categories_named("N") | bit(Category::Pc);
}

}  // namespace

void CharSet::finish() {
  ascii = {};
  for (uint32_t code = 0; code < 128; ++code) {
    if (compute(code)) ascii[code / 64] |= uint64_t{1} << (code % 64);
  }
}

// Parses a pattern into a tree and writes the two programs.
class RegexCompiler {
 public:
  RegexCompiler(std::string_view pattern, const std::string& where, Regex& out)
      : pattern_(pattern), where_(where), out_(out) {
    if (pattern.size() > kMostBytes) fail("it is too long");
    if (valid_prefix(pattern) != pattern.size()) fail("it is not UTF-8");
  }

  void run() {
    const Node root = alternatives(false, 0);
    if (at_ < pattern_.size()) fail("')' without '('");
    for (const bool fast : {true, false}) {
      code_ = fast ? &out_.fast_ : &out_.simple_;
      fast_ = fast;
      emit(root);
      put({Regex::Op::Match});
    }
  }

 private:
  using Op = Regex::Op;
  using Instruction = Regex::Instruction;

  struct Node {
    enum Kind { Set, Sequence, Choice, Repeat, Assertion } kind = Sequence;
    Instruction instruction{Op::Match};  // Set, Assertion; Repeat: bounds and mode
    std::vector<Node> children = {};
  };

  [[noreturn]] void fail(const std::string& why) const {
    fail_unsupported(where_ + "the regular expression is not supported: " + why + " (at byte " +
                     std::to_string(at_) + " of \"" + std::string(pattern_.substr(0, 200)) + "\")");
  }

  bool more() const { return at_ < pattern_.size(); }
  bool take(std::string_view what) {
    if (!pattern_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }
  uint32_t next() {
    if (!more()) fail("it ends early");
    const Utf8Char c = first_char(pattern_.substr(at_));
    at_ += c.size;
    return c.code;
  }

  // -- parsing

  Node alternatives(bool fold, int depth) {
    if (depth > kMostDepth) fail("groups are nested too deep");
    Node choice{Node::Choice};
    do {
      Node sequence;
      while (more() && pattern_[at_] != '|' && pattern_[at_] != ')')
        sequence.children.push_back(repeated(fold, depth));
      choice.children.push_back(std::move(sequence));
    } while (take("|"));
    return choice;
  }

  Node repeated(bool fold, int depth) {
    Node node = atom(fold, depth);
    for (int stacked = 0; more(); ++stacked) {
      uint32_t least = 0;
      uint32_t most = Regex::kUnlimited;
      bool counted = false;
      if (take("?")) {
        most = 1;
      } else if (take("+")) {
        least = 1;
      } else if (pattern_[at_] == '{') {
        counted = true;
        ++at_;
        least = number();
        most = least;
        if (take(",")) most = more() && pattern_[at_] == '}' ? Regex::kUnlimited : number();
        if (!take("}")) fail("'}' is missing");
        if (most < least) fail("a repetition from more to fewer");
      } else if (!take("*")) {
        break;
      }
      Instruction bounds{Op::Run, 0, 0, least, most};
      if (take("?")) {
        bounds.mode = Instruction::Lazy;
      } else if (!counted && take("+")) {
        bounds.mode = Instruction::Possessive;
        if (node.kind != Node::Set) fail("a possessive group");
      }
      if (node.kind == Node::Assertion) fail("a repeated assertion");
      if (stacked > 2) fail("repetitions of repetitions");
      Node repeat{Node::Repeat, bounds};
      repeat.children.push_back(std::move(node));
      node = std::move(repeat);
    }
    return node;
  }

  uint32_t number() {
    uint32_t value = 0;
    const size_t begin = at_;
    while (more() && pattern_[at_] >= '0' && pattern_[at_] <= '9') {
      value = value * 10 + static_cast<uint32_t>(pattern_[at_++] - '0');
      if (value > kMostRepeats) fail("more than 1000 repetitions");
    }
    if (at_ == begin) fail("a number is missing");
    return value;
  }

  Node atom(bool fold, int depth) {
    if (take("(")) return group(fold, depth);
    if (pattern_[at_] == '[') {
      ++at_;
      return set_node(char_class(fold));
    }
    if (take("^")) return assertion({Op::LineBegin});
    if (take("$")) return assertion({Op::LineEnd});
    if (take("\\A")) return assertion({Op::TextBegin});
    if (take("\\z")) return assertion({Op::TextEnd});
    if (take(".")) {
      CharSet all_but_newline;
      all_but_newline.ranges = {{'\n', '\n'}};
      all_but_newline.negated = true;
      return set_node(std::move(all_but_newline));
    }
    CharSet set;
    if (pattern_[at_] == '\\') {
      escape(set, fold);
    } else {
      const uint32_t code = next();
      if (code == '?' || code == '*' || code == '+') fail("nothing to repeat");
      add(set, code, code, fold);
    }
    return set_node(std::move(set));
  }

  Node group(bool fold, int depth) {
    if (take("?=")) return lookahead(fold, depth, false);
    if (take("?!")) return lookahead(fold, depth, true);
    if (take("?i:")) {
      fold = true;
    } else if (!take("?:") && more() && pattern_[at_] == '?') {
      fail("this kind of group");
    }
    Node node = alternatives(fold, depth + 1);
    if (!take(")")) fail("')' is missing");
    return node;
  }

  Node lookahead(bool fold, int depth, bool negative) {
    Node body = alternatives(fold, depth + 1);
    if (!take(")")) fail("')' is missing");
    const Node* one = &body;
    while ((one->kind == Node::Choice || one->kind == Node::Sequence) && one->children.size() == 1)
      one = &one->children[0];
    if (one->kind != Node::Set) fail("a lookahead for more than one character");
    return assertion({Op::Look, one->instruction.a, negative ? 1u : 0u});
  }

  static Node assertion(Instruction instruction) { return {Node::Assertion, instruction}; }

  Node set_node(CharSet set) {
    set.finish();
    out_.sets_.push_back(std::move(set));
    return {Node::Set, {Op::Set, static_cast<uint32_t>(out_.sets_.size() - 1)}};
  }

  void add(CharSet& set, uint32_t low, uint32_t high, bool fold) {
    set.ranges.emplace_back(low, high);
    if (!fold) return;
    if (high >= 128 && low != high) fail("a range beyond ASCII that ignores case");
    if (high >= 128) {
      const Categories cased = bit(Category::Lu) | bit(Category::Ll) | bit(Category::Lt);
      if (cased >> static_cast<int>(category(low)) & 1) fail("a letter beyond ASCII that ignores case");
      return;
    }
    for (uint32_t code = low; code <= high; ++code) {
      const uint32_t lower = code | 0x20;
      if (lower < 'a' || lower > 'z') continue;
      set.ranges.emplace_back(code ^ 0x20, code ^ 0x20);
      // The two other characters whose lower case is an ASCII letter.
      if (lower == 's') set.ranges.emplace_back(kLongS, kLongS);
      if (lower == 'k') set.ranges.emplace_back(kKelvin, kKelvin);
    }
  }

  uint32_t hex(size_t digits) {
    uint32_t value = 0;
    for (size_t i = 0; i < digits; ++i) {
      const uint32_t c = next();
      const uint32_t lower = c | 0x20;
      if (c >= '0' && c <= '9') {
        value = value * 16 + (c - '0');
      } else if (lower >= 'a' && lower <= 'f') {
        value = value * 16 + (lower - 'a' + 10);
      } else {
        fail("a hexadecimal digit is missing");
      }
    }
    return value;
  }

  // An escape sequence. True where it is a single character, which is left to the caller as `code`.
  bool escape_or_char(CharSet& set, uint32_t& code) {
    ++at_;
    const uint32_t c = next();
    const auto categories = [&](Categories found) {
      set.categories |= found;
      return false;
    };
    switch (c) {
      case 's':
        set.spaces = true;
        return false;
      case 'S':
        set.non_spaces = true;
        return false;
      case 'd':
        return categories(bit(Category::Nd));
      case 'D':
        return categories(kAllCategories & ~bit(Category::Nd));
      case 'w':
        return categories(word_categories());
      case 'W':
        return categories(kAllCategories & ~word_categories());
      case 'p':
      case 'P': {
        bool negated = c == 'P';
        std::string name;
        if (take("{")) {
          if (take("^")) negated = !negated;
          while (more() && pattern_[at_] != '}') name += pattern_[at_++];
          if (!take("}")) fail("'}' is missing");
        }
        const Categories found = categories_named(name);
        if (!found) fail("the property \"" + name + "\"");
        return categories(negated ? kAllCategories & ~found : found);
      }
      case 'n':
        code = '\n';
        return true;
      case 'r':
        code = '\r';
        return true;
      case 't':
        code = '\t';
        return true;
      case 'f':
        code = '\f';
        return true;
      case 'v':
        code = '\v';
        return true;
      case 'x':
        if (take("{")) {
          code = 0;
          while (more() && pattern_[at_] != '}') {
            code = code * 16 + hex(1);
            if (code > 0x10ffff) fail("a character beyond U+10FFFF");
          }
          if (!take("}")) fail("'}' is missing");
        } else {
          code = hex(2);
        }
        return true;
      case 'u':
        code = hex(4);
        return true;
      default:
        if (c < 128 && ((c | 0x20) >= 'a' ? (c | 0x20) <= 'z' : c >= '0' && c <= '9'))
          fail(std::string("the escape \\") + static_cast<char>(c));
        code = c;
        return true;
    }
  }

  void escape(CharSet& set, bool fold) {
    uint32_t code = 0;
    if (escape_or_char(set, code)) add(set, code, code, fold);
  }

  CharSet char_class(bool fold) {
    CharSet set;
    set.negated = take("^");
    bool first = true;
    while (true) {
      if (!more()) fail("']' is missing");
      if (pattern_[at_] == ']' && !first) break;
      first = false;
      if (pattern_[at_] == '[') fail("a class within a class");
      if (pattern_.substr(at_).starts_with("&&")) fail("an intersection of classes");
      uint32_t low = 0;
      if (pattern_[at_] == '\\') {
        if (!escape_or_char(set, low)) continue;
      } else {
        low = next();
      }
      uint32_t high = low;
      if (pattern_.substr(at_).starts_with('-') && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']') {
        ++at_;
        CharSet none;
        if (pattern_[at_] == '\\') {
          if (!escape_or_char(none, high)) fail("a range that ends in a class");
        } else {
          high = next();
        }
        if (high < low) fail("a range from high to low");
      }
      add(set, low, high, fold);
    }
    ++at_;
    return set;
  }

  // -- writing

  uint32_t put(Instruction instruction) {
    if (code_->size() >= kMostInstructions) fail("it is too long");
    code_->push_back(instruction);
    return static_cast<uint32_t>(code_->size() - 1);
  }
  uint32_t here() const { return static_cast<uint32_t>(code_->size()); }

  void emit(const Node& node) {
    if (++emitted_ > 4 * kMostInstructions) fail("it is too long");
    switch (node.kind) {
      case Node::Set:
      case Node::Assertion:
        put(node.instruction);
        break;
      case Node::Sequence:
        for (const Node& child : node.children) emit(child);
        break;
      case Node::Choice: {
        std::vector<uint32_t> ends;
        for (size_t i = 0; i < node.children.size(); ++i) {
          const bool last = i + 1 == node.children.size();
          const uint32_t split = last ? 0 : put({Op::Split, here() + 1});
          emit(node.children[i]);
          if (last) break;
          ends.push_back(put({Op::Jump}));
          (*code_)[split].b = here();
        }
        for (const uint32_t end : ends) (*code_)[end].a = here();
        break;
      }
      case Node::Repeat:
        emit_repeat(node.children[0], node.instruction);
        break;
    }
  }

  void emit_repeat(const Node& body, const Instruction& bounds) {
    if (fast_ && body.kind == Node::Set) {
      Instruction run = bounds;
      run.a = body.instruction.a;
      put(run);
      return;
    }
    const bool lazy = bounds.mode == Instruction::Lazy;
    // Split, with the body in front where the repetition is greedy; the other way is set later.
    const auto split = [&] { return put({Op::Split, here() + 1, here() + 1}); };
    const auto leave = [&](uint32_t at, uint32_t to) { (lazy ? (*code_)[at].a : (*code_)[at].b) = to; };
    for (uint32_t i = 0; i < bounds.least; ++i) emit(body);
    if (bounds.most == Regex::kUnlimited) {
      const uint32_t again = split();
      emit(body);
      put({Op::Jump, again});
      leave(again, here());
    } else {
      std::vector<uint32_t> splits;
      for (uint32_t i = bounds.least; i < bounds.most; ++i) {
        splits.push_back(split());
        emit(body);
      }
      for (const uint32_t at : splits) leave(at, here());
    }
    // A possessive one gives nothing back: as much as there is, or one optional character.
    if (bounds.mode != Instruction::Possessive) return;
    if (bounds.most == Regex::kUnlimited) {
      put({Op::Look, body.instruction.a, 1});
    } else {
      // X?+ is (X | (?!X)): what skips X must not see it.
      const Instruction optional = code_->back();
      code_->pop_back();
      const uint32_t at = here() - 1;
      put(optional);
      const uint32_t jump = put({Op::Jump});
      (*code_)[at].b = here();
      put({Op::Look, body.instruction.a, 1});
      (*code_)[jump].a = here();
    }
  }

  std::string_view pattern_;
  const std::string& where_;
  Regex& out_;
  size_t at_ = 0;
  std::vector<Instruction>* code_ = nullptr;
  size_t emitted_ = 0;
  bool fast_ = true;
};

Regex::Regex(std::string_view pattern, const std::string& where) {
  RegexCompiler(pattern, where, *this).run();
}

}  // namespace mllm::text
