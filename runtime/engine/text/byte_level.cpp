#include "text/byte_level.h"

#include <algorithm>
#include <array>
#include <queue>

#include "base/error.h"
#include "text/utf8.h"
#include "text/word_cache.h"

namespace mllm::text {
namespace {

// GPT-2's alphabet: printable characters of Latin-1 stand for themselves, the other bytes for U+0100 and on.
struct Alphabet {
  std::array<uint32_t, 256> character{};
  std::array<int16_t, 0x144> byte{};

  Alphabet() {
    byte.fill(-1);
    uint32_t next = 0x100;
    for (uint32_t b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
      character[b] = printable ? b : next++;
      byte[character[b]] = static_cast<int16_t>(b);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet table;
  return table;
}

}  // namespace

bool bytes_of_spelling(std::string_view spelling, std::string& bytes) {
  const Alphabet& table = alphabet();
  std::string found;
  while (!spelling.empty()) {
    const Utf8Char c = first_char(spelling);
    if (!c.valid || c.code >= table.byte.size() || table.byte[c.code] < 0) return false;
    found += static_cast<char>(table.byte[c.code]);
    spelling.remove_prefix(c.size);
  }
  bytes = std::move(found);
  return true;
}

std::string spelling_of_bytes(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) append_utf8(out, alphabet().character[static_cast<unsigned char>(c)]);
  return out;
}

// -- the vocabulary

bool ByteLevelVocabulary::add_spelling(std::string_view spelling, int32_t id) {
  std::string bytes;
  if (bytes_of_spelling(spelling, bytes)) return add_bytes(bytes, id);
  return add_bytes(spelling, id, true);
}

bool ByteLevelVocabulary::add_bytes(std::string_view bytes, int32_t id, bool spelled) {
  if (id < 0 || id >= kMostIds) return false;
  const auto index = static_cast<size_t>(id);
  if (index >= entries_.size()) entries_.resize(index + 1);
  Entry& entry = entries_[index];
  if (entry.taken) return false;
  entry.begin = static_cast<uint32_t>(pool_.size());
  entry.size = static_cast<uint32_t>(bytes.size()) & 0x3fffffffu;
  entry.spelled = spelled;
  entry.taken = true;
  pool_ += bytes;
  ++count_;
  return true;
}

void ByteLevelVocabulary::finish(const std::string& where) {
  if (count_ == 0) fail_format(where + "the vocabulary is empty");
  if (entries_.size() > 4 * count_ + 65536) fail_format(where + "the vocabulary's ids are too far apart");
  by_bytes_ = PieceTable(count_);
  for (int32_t id = 0; id < size(); ++id) {
    if (!has(id)) continue;
    const bool spelled = entries_[static_cast<size_t>(id)].spelled;
    if (!(spelled ? by_spelling_ : by_bytes_).insert(bytes(id), id))
      fail_format(where + "token " + std::to_string(id) + " repeats an earlier one");
  }
}

std::string ByteLevelVocabulary::spelling(int32_t id) const {
  return entries_[static_cast<size_t>(id)].spelled ? std::string(bytes(id)) : spelling_of_bytes(bytes(id));
}

int32_t ByteLevelVocabulary::find_spelling(std::string_view spelling) const {
  std::string bytes;
  return bytes_of_spelling(spelling, bytes) ? by_bytes_.find(bytes) : by_spelling_.find(spelling);
}

// -- merges

void MergeTable::add(Merge merge) {
  if (3 * (merges_.size() + 1) > 2 * slots_.size()) {
    slots_.assign(2 * slots_.size(), 0);
    for (size_t i = 0; i < merges_.size(); ++i)
      slots_[slot_of(merges_[i].left, merges_[i].right)] = static_cast<uint32_t>(i + 1);
  }
  const size_t slot = slot_of(merge.left, merge.right);
  merges_.push_back(merge);
  slots_[slot] = static_cast<uint32_t>(merges_.size());
}

namespace {

// -- encoding

class ByteLevelTokenizer : public Tokenizer {
 public:
  ByteLevelTokenizer(std::unique_ptr<ByteLevelModel> model, const std::string& where)
      : model_(std::move(model)),
        raw_(model_->added, spellings(false)),
        normalized_(model_->added, spellings(true)) {
    const ByteLevelVocabulary& vocabulary = model_->vocabulary;
    vocab_size_ = vocabulary.size();
    for (const AddedToken& token : model_->added) {
      if (token.id < 0 || token.id >= ByteLevelVocabulary::kMostIds || token.id > vocabulary.size() + 65536) {
        fail_format(where + "the added token \"" + token.content + "\" has the id " +
                    std::to_string(token.id) + ", far from the vocabulary's");
      }
      vocab_size_ = std::max(vocab_size_, token.id + 1);
      any_normalized_ = any_normalized_ || token.normalized;
    }
    added_by_id_.assign(static_cast<size_t>(vocab_size_), -1);
    for (size_t i = 0; i < model_->added.size(); ++i)
      added_by_id_[static_cast<size_t>(model_->added[i].id)] = static_cast<int32_t>(i);
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      byte_ids_[static_cast<size_t>(byte)] = vocabulary.find_bytes({&c, 1});
    }
    set_special_ids(model_->special, where);
  }

  int32_t find(std::string_view piece) const override {
    for (const AddedToken& token : model_->added) {
      if (token.content == piece) return token.id;
    }
    return model_->vocabulary.find_spelling(piece);
  }

 protected:
  void encode_text(std::string_view text, bool parse_special, std::vector<int32_t>& ids) override {
    if (valid_prefix(text) != text.size()) {
      encode_text(replace_invalid(text), parse_special, ids);
      return;
    }
    const PreTokenizer::Word word = [&](std::string_view one) { encode_word(one, ids); };
    const auto stretch = [&](std::string_view one, const AddedToken* token) {
      if (token) {
        ids.push_back(token->id);
      } else {
        model_->pre_tokenizer.split(one, word);
      }
    };
    raw_.split(text, parse_special, [&](std::string_view one, const AddedToken* token) {
      if (token) {
        ids.push_back(token->id);
      } else if (model_->nfc) {
        normalized_.split(to_nfc(one), parse_special, stretch);
      } else if (any_normalized_) {
        normalized_.split(one, parse_special, stretch);
      } else {
        stretch(one, nullptr);
      }
    });
  }

  TokenKind kind_of(int32_t id) const override {
    if (const AddedToken* token = added(id)) return token->special ? TokenKind::Special : TokenKind::Text;
    return model_->vocabulary.has(id) ? TokenKind::Text : TokenKind::Special;
  }

  std::string piece_of(int32_t id) const override {
    if (const AddedToken* token = added(id)) return token->content;
    return model_->vocabulary.has(id) ? model_->vocabulary.spelling(id) : "";
  }

  std::string bytes_of(int32_t id) const override {
    const AddedToken* token = added(id);
    if (!token) return model_->vocabulary.has(id) ? std::string(model_->vocabulary.bytes(id)) : "";
    // Decoding reads the content of an added token like any other spelling, where it is one.
    std::string bytes = token->content;
    bytes_of_spelling(token->content, bytes);
    return bytes;
  }

 private:
  const AddedToken* added(int32_t id) const {
    const int32_t index = added_by_id_[static_cast<size_t>(id)];
    return index < 0 ? nullptr : &model_->added[static_cast<size_t>(index)];
  }

  std::vector<std::string> spellings(bool normalized) const {
    std::vector<std::string> out;
    for (const AddedToken& token : model_->added) {
      if (token.normalized != normalized) {
        out.emplace_back();
      } else {
        out.push_back(normalized && model_->nfc ? to_nfc(token.content) : token.content);
      }
    }
    return out;
  }

  void encode_word(std::string_view word, std::vector<int32_t>& ids) {
    if (cache_.find(word, ids)) return;
    const size_t before = ids.size();
    const int32_t whole = model_->ignore_merges ? model_->vocabulary.find_bytes(word) : -1;
    if (whole >= 0) {
      ids.push_back(whole);
    } else {
      start(word);
      if (symbols_.size() <= kShort) {
        merge_short();
      } else {
        merge_long();
      }
      for (const Symbol& symbol : symbols_) {
        if (symbol.id >= 0) ids.push_back(symbol.id);
      }
    }
    cache_.add(word, {ids.data() + before, ids.size() - before});
  }

  // One symbol for each byte.
  void start(std::string_view word) {
    symbols_.clear();
    bool after_unknown = false;
    for (const char c : word) {
      const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
      const bool unknown = id < 0;
      if (!unknown || (model_->unknown >= 0 && !(after_unknown && model_->fuse_unknown)))
        symbols_.push_back({unknown ? model_->unknown : id, MergeTable::kNone, 0, 0});
      after_unknown = unknown;
    }
  }

  uint32_t rank(size_t left, size_t right) const {
    return model_->merges.rank(symbols_[left].id, symbols_[right].id);
  }

  // Always the most urgent pair, of equal ones the leftmost, by looking at all of them.
  void merge_short() {
    size_t n = symbols_.size();
    for (size_t i = 0; i + 1 < n; ++i) symbols_[i].rank = rank(i, i + 1);
    while (n > 1) {
      size_t best = 0;
      for (size_t i = 1; i + 1 < n; ++i) {
        if (symbols_[i].rank < symbols_[best].rank) best = i;
      }
      if (symbols_[best].rank == MergeTable::kNone) break;
      symbols_[best].id = model_->merges.merged(symbols_[best].rank);
      symbols_.erase(symbols_.begin() + static_cast<ptrdiff_t>(best) + 1);
      --n;
      symbols_[best].rank = best + 1 < n ? rank(best, best + 1) : MergeTable::kNone;
      if (best > 0) symbols_[best - 1].rank = rank(best - 1, best);
    }
  }

  // The same with a heap, for words of any length.
  void merge_long() {
    const auto n = static_cast<uint32_t>(symbols_.size());
    std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> agenda;  // rank, then place
    const auto propose = [&](uint32_t left) {
      Symbol& symbol = symbols_[left];
      symbol.rank = symbol.next < n ? rank(left, symbol.next) : MergeTable::kNone;
      if (symbol.rank != MergeTable::kNone) agenda.push(uint64_t{symbol.rank} << 32 | left);
    };
    for (uint32_t i = 0; i < n; ++i) {
      symbols_[i].previous = i == 0 ? n : i - 1;
      symbols_[i].next = i + 1;
    }
    for (uint32_t i = 0; i < n; ++i) propose(i);
    while (!agenda.empty()) {
      const auto urgent = static_cast<uint32_t>(agenda.top() >> 32);
      const auto left = static_cast<uint32_t>(agenda.top());
      agenda.pop();
      Symbol& symbol = symbols_[left];
      if (symbol.id < 0 || symbol.rank != urgent) continue;  // merged since, or with another neighbour
      const uint32_t gone = symbol.next;
      symbol.id = model_->merges.merged(urgent);
      symbol.next = symbols_[gone].next;
      symbols_[gone].id = -1;
      if (symbol.next < n) symbols_[symbol.next].previous = left;
      propose(left);
      if (symbol.previous < n) propose(symbol.previous);
    }
  }

  static constexpr size_t kShort = 48;

  struct Symbol {
    int32_t id;  // -1: merged into its left neighbour
    uint32_t rank;
    uint32_t previous, next;
  };

  std::unique_ptr<ByteLevelModel> model_;
  AddedTokenFinder raw_, normalized_;
  bool any_normalized_ = false;
  std::vector<int32_t> added_by_id_;  // -1: an entry of the vocabulary
  std::array<int32_t, 256> byte_ids_{};
  WordCache cache_;
  std::vector<Symbol> symbols_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_level(std::unique_ptr<ByteLevelModel> model, const std::string& where) {
  return std::make_unique<ByteLevelTokenizer>(std::move(model), where);
}

}  // namespace mllm::text
