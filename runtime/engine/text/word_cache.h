// Token ids of short words seen before: natural text repeats itself. A word evicts whatever shares its place.
#ifndef MINDIR_LLM_TEXT_WORD_CACHE_H_
#define MINDIR_LLM_TEXT_WORD_CACHE_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "text/piece_table.h"

namespace mllm::text {

class WordCache {
 public:
  // False where the word is not there; otherwise its ids are appended.
  bool find(std::string_view word, std::vector<int32_t>& ids) const {
    if (entries_.empty() || word.size() > kMostBytes) return false;
    const Entry& entry = entries_[hash_bytes(word) % kEntries];
    if (entry.size != word.size() || std::memcmp(entry.word.data(), word.data(), word.size()) != 0)
      return false;
    ids.insert(ids.end(), entry.ids.begin(), entry.ids.begin() + entry.n_ids);
    return true;
  }

  void add(std::string_view word, std::span<const int32_t> ids) {
    if (word.empty() || word.size() > kMostBytes || ids.size() > kMostIds) return;
    if (entries_.empty()) entries_.resize(kEntries);
    Entry& entry = entries_[hash_bytes(word) % kEntries];
    entry.size = static_cast<uint8_t>(word.size());
    entry.n_ids = static_cast<uint8_t>(ids.size());
    std::copy(word.begin(), word.end(), entry.word.begin());
    std::copy(ids.begin(), ids.end(), entry.ids.begin());
  }

 private:
  static constexpr size_t kEntries = 1 << 14;
  static constexpr size_t kMostBytes = 30;
  static constexpr size_t kMostIds = 8;

  struct Entry {  // one cache line
    uint8_t size = 0;
    uint8_t n_ids = 0;
    std::array<char, kMostBytes> word{};
    std::array<int32_t, kMostIds> ids{};
  };
  static_assert(sizeof(Entry) == 64);

  std::vector<Entry> entries_;
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_WORD_CACHE_H_
