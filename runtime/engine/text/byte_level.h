// Byte-level BPE (GPT-2 and its descendants): every byte has a token, merges work on bytes within words.
#ifndef MINDIR_LLM_TEXT_BYTE_LEVEL_H_
#define MINDIR_LLM_TEXT_BYTE_LEVEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/added_tokens.h"
#include "text/piece_table.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"

namespace mllm::text {

// Files write bytes as printable characters: "Ġ" is a blank. False, and nothing happens to `bytes`, where the
// text has a character that stands for no byte.
bool bytes_of_spelling(std::string_view spelling, std::string& bytes);
std::string spelling_of_bytes(std::string_view bytes);

// The vocabulary of a model: what each id stands for.
class ByteLevelVocabulary {
 public:
  static constexpr int32_t kMostIds = 1 << 24;

  // False where the id is taken already or out of range.
  bool add_spelling(std::string_view spelling, int32_t id);
  bool add_bytes(std::string_view bytes, int32_t id, bool spelled = false);
  // Once all entries are there. Throws FORMAT beginning with `where` where an entry is there twice, or ids
  // are far apart.
  void finish(const std::string& where);

  int32_t size() const { return static_cast<int32_t>(entries_.size()); }  // ids are below it, with gaps
  size_t count() const { return count_; }
  bool has(int32_t id) const { return id >= 0 && id < size() && entries_[static_cast<size_t>(id)].taken; }
  std::string_view bytes(int32_t id) const {
    const Entry& entry = entries_[static_cast<size_t>(id)];
    return std::string_view(pool_).substr(entry.begin, entry.size);
  }
  std::string spelling(int32_t id) const;
  // After finish(); -1: there is none.
  int32_t find_bytes(std::string_view bytes) const { return by_bytes_.find(bytes); }
  int32_t find_spelling(std::string_view spelling) const;

 private:
  struct Entry {
    uint32_t begin = 0;  // in the pool
    uint32_t size : 30 = 0;
    uint32_t spelled : 1 = 0;  // stands for itself: the spelling has characters that stand for no byte
    uint32_t taken : 1 = 0;
  };
  std::vector<Entry> entries_;
  std::string pool_;
  size_t count_ = 0;
  PieceTable by_bytes_;
  PieceTable by_spelling_;  // those that stand for themselves
};

// Pairs of ids and what they become.
class MergeTable {
 public:
  struct Merge {
    int32_t left, right, id;
  };
  static constexpr uint32_t kNone = 0xffffffff;

  // The most urgent first; of equal pairs the last one counts.
  void add(Merge merge);
  uint32_t rank(int32_t left, int32_t right) const {  // kNone: they do not merge
    const uint32_t slot = slots_[slot_of(left, right)];
    return slot ? slot - 1 : kNone;
  }
  int32_t merged(uint32_t rank) const { return merges_[rank].id; }

 private:
  size_t slot_of(int32_t left, int32_t right) const {
    const uint64_t key = uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
    const size_t mask = slots_.size() - 1;
    size_t at = (key * 0x9e3779b97f4a7c15u) >> 32 & mask;
    while (slots_[at] && (merges_[slots_[at] - 1].left != left || merges_[slots_[at] - 1].right != right))
      at = (at + 1) & mask;
    return at;
  }
  std::vector<Merge> merges_;
  std::vector<uint32_t> slots_ = std::vector<uint32_t>(2);  // 1 + rank, 0: free; at most 2 in 3 are taken
};

// Everything that a tokenizer's files say.
struct ByteLevelModel {
  ByteLevelVocabulary vocabulary;
  MergeTable merges;
  bool ignore_merges = false;  // a word that is a token is that token
  int32_t unknown = -1;        // for bytes that have no token; -1: they vanish
  bool fuse_unknown = false;
  bool nfc = false;
  PreTokenizer pre_tokenizer;
  std::vector<AddedToken> added;
  SpecialIds special;
};

// Throws FORMAT beginning with `where` where it contradicts itself.
std::unique_ptr<Tokenizer> make_byte_level(std::unique_ptr<ByteLevelModel> model, const std::string& where);

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_BYTE_LEVEL_H_
