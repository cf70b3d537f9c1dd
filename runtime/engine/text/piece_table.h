// A hash table from a token's bytes to its id. The bytes belong to somebody else, who must outlive it.
#ifndef MINDIR_LLM_TEXT_PIECE_TABLE_H_
#define MINDIR_LLM_TEXT_PIECE_TABLE_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace mllm::text {

inline uint64_t hash_bytes(std::string_view bytes) {
  uint64_t h = bytes.size() * 0x9e3779b97f4a7c15u;
  const auto mix = [&](uint64_t word) {
    h = (h ^ word) * 0xff51afd7ed558ccdu;
    h ^= h >> 32;
  };
  while (bytes.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    mix(word);
    bytes.remove_prefix(8);
  }
  if (!bytes.empty()) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data(), bytes.size());
    mix(word);
  }
  return h;
}

class PieceTable {
 public:
  explicit PieceTable(size_t expected = 0) { resize(std::bit_ceil(2 * expected + 2)); }

  // False, and nothing changes, where an equal key is there already.
  bool insert(std::string_view key, int32_t id) {
    if (2 * (keys_.size() + 1) > slots_.size()) resize(2 * slots_.size());
    const uint64_t hash = hash_bytes(key);
    Slot& slot = slots_[place(key, hash)];
    if (slot.entry) return false;
    keys_.push_back({key, id});
    slot = {static_cast<uint32_t>(keys_.size()), tag(hash)};
    return true;
  }

  int32_t find(std::string_view key) const {  // -1: not there
    const Slot& slot = slots_[place(key, hash_bytes(key))];
    return slot.entry ? keys_[slot.entry - 1].id : -1;
  }

 private:
  struct Entry {
    std::string_view key;
    int32_t id;
  };
  struct Slot {
    uint32_t entry = 0;  // 1 + index into keys_, 0: free; at most half are taken
    uint32_t tag = 0;    // part of the hash, so that other keys are seldom looked at
  };

  static uint32_t tag(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }

  size_t place(std::string_view key, uint64_t hash) const {
    const size_t mask = slots_.size() - 1;
    size_t at = hash & mask;
    while (slots_[at].entry && (slots_[at].tag != tag(hash) || keys_[slots_[at].entry - 1].key != key))
      at = (at + 1) & mask;
    return at;
  }

  void resize(size_t slots) {
    slots_.assign(slots, {});
    for (size_t i = 0; i < keys_.size(); ++i) {
      const uint64_t hash = hash_bytes(keys_[i].key);
      slots_[place(keys_[i].key, hash)] = {static_cast<uint32_t>(i + 1), tag(hash)};
    }
  }

  std::vector<Entry> keys_;
  std::vector<Slot> slots_;
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_PIECE_TABLE_H_
