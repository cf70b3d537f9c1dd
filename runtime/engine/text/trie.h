// A set of byte strings, each with a number, to be found at the beginning of a text.
#ifndef MINDIR_LLM_TEXT_TRIE_H_
#define MINDIR_LLM_TEXT_TRIE_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace mllm::text {

class Trie {
 public:
  using Key = std::pair<std::string_view, int32_t>;

  Trie() : Trie(std::vector<Key>()) {}
  // Empty keys are left out; of equal keys the first one counts.
  explicit Trie(std::vector<Key> keys);

  bool empty() const { return nodes_.size() == 1; }
  // Whether any key starts with this byte.
  bool starts(char byte) const { return first_[static_cast<unsigned char>(byte)] != 0; }

  // Calls found(value, length) for every key that begins the text, shortest first.
  template <class F>
  void prefixes(std::string_view text, F&& found) const {
    uint32_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      node = child(node, static_cast<unsigned char>(text[i]));
      if (!node) return;
      if (nodes_[node].value >= 0) found(nodes_[node].value, i + 1);
    }
  }

  struct Match {
    int32_t value = -1;  // -1: no key begins the text
    size_t length = 0;
  };
  Match longest(std::string_view text) const {
    Match best;
    prefixes(text, [&](int32_t value, size_t length) { best = {value, length}; });
    return best;
  }

 private:
  struct Node {
    uint32_t children = 0;  // they lie side by side, by label
    uint16_t count = 0;
    uint8_t label = 0;
    int32_t value = -1;
  };

  uint32_t child(uint32_t node, uint8_t label) const {
    if (node == 0) return first_[label];
    const Node& n = nodes_[node];
    uint32_t low = n.children;
    uint32_t count = n.count;
    while (count > 0) {
      const uint32_t half = count / 2;
      if (nodes_[low + half].label < label) {
        low += half + 1;
        count -= half + 1;
      } else {
        count = half;
      }
    }
    return low < n.children + n.count && nodes_[low].label == label ? low : 0;
  }

  std::vector<Node> nodes_;
  std::array<uint32_t, 256> first_{};  // children of the root
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_TRIE_H_
