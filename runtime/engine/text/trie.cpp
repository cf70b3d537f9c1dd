#include "text/trie.h"

namespace mllm::text {

Trie::Trie(std::vector<Key> keys) {
  std::erase_if(keys, [](const Key& key) { return key.first.empty(); });
  std::stable_sort(keys.begin(), keys.end(), [](const Key& a, const Key& b) { return a.first < b.first; });
  nodes_.push_back({});
  // Nodes in breadth-first order, each with its range of keys, so that siblings lie side by side.
  struct Range {
    size_t begin, end;
    size_t depth;
  };
  std::vector<Range> ranges = {{0, keys.size(), 0}};
  for (size_t node = 0; node < nodes_.size(); ++node) {
    auto [begin, end, depth] = ranges[node];
    for (; begin < end && keys[begin].first.size() == depth; ++begin) {
      if (nodes_[node].value < 0) nodes_[node].value = keys[begin].second;
    }
    nodes_[node].children = static_cast<uint32_t>(nodes_.size());
    while (begin < end) {
      const char label = keys[begin].first[depth];
      size_t next = begin;
      while (next < end && keys[next].first[depth] == label) ++next;
      ++nodes_[node].count;
      nodes_.push_back({0, 0, static_cast<uint8_t>(label), -1});
      ranges.push_back({begin, next, depth + 1});
      begin = next;
    }
  }
  for (uint32_t i = 0; i < nodes_[0].count; ++i) {
    first_[nodes_[nodes_[0].children + i].label] = nodes_[0].children + i;
  }
}

}  // namespace mllm::text
