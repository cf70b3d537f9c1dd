#include "grammar/vocabulary.h"

#include <algorithm>

#include "text/utf8.h"

namespace mllm::grammar {

Vocabulary::Vocabulary(const text::Tokenizer& tokenizer)
    : size_(tokenizer.vocab_size()),
      loses_all_blanks_(tokenizer.decoding_rules().strip_all_first_spaces),
      end_tokens_(tokenizer.special_ids().stop) {
  if (tokenizer.decoding_rules().strip_first_space) blanks_.resize(static_cast<size_t>(size_));
  offsets_.reserve(static_cast<size_t>(size_) + 1);
  for (int32_t id = 0; id < size_; ++id) {
    offsets_.push_back(static_cast<uint32_t>(pool_.size()));
    const bool ends = std::find(end_tokens_.begin(), end_tokens_.end(), id) != end_tokens_.end();
    if (ends || tokenizer.kind(id) == text::TokenKind::Special) continue;
    const std::string bytes = tokenizer.bytes(id);
    if (bytes.size() > kLongest) continue;
    pool_ += bytes;
    if (!bytes.empty()) order_.push_back(id);
    if (!blanks_.empty() && tokenizer.kind(id) == text::TokenKind::Text &&
        tokenizer.piece(id).starts_with(text::kVisibleSpace)) {
      blanks_[static_cast<size_t>(id)] = true;
      if (bytes.size() == 1) blank_tokens_.push_back(id);
    }
  }
  offsets_.push_back(static_cast<uint32_t>(pool_.size()));
  std::sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) {
    const std::string_view x = bytes(a);
    const std::string_view y = bytes(b);
    return x != y ? x < y : a < b;
  });

  nodes_.push_back({});
  std::vector<uint32_t> path = {0};  // nodes of the last token's bytes
  std::string_view last;
  for (uint32_t i = 0; i < order_.size(); ++i) {
    const std::string_view text = bytes(order_[i]);
    size_t common = 0;
    while (common < last.size() && common < text.size() && last[common] == text[common]) ++common;
    while (path.size() > common + 1) {
      nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
      path.pop_back();
    }
    for (size_t at = common; at < text.size(); ++at) {
      path.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({0, 0, static_cast<uint16_t>(at + 1), static_cast<uint8_t>(text[at]), 0});
    }
    Node& node = nodes_[path.back()];
    if (!node.n_tokens) node.tokens = i;
    // More than 255 tokens of the same bytes is no vocabulary that anyone has.
    if (node.n_tokens < 255) ++node.n_tokens;
    last = text;
  }
  for (const uint32_t node : path) nodes_[node].end = static_cast<uint32_t>(nodes_.size());

  for (size_t i = 1; i < nodes_.size(); ++i) ++begin_[nodes_[i].label + size_t{1}];
  for (size_t b = 0; b < 256; ++b) begin_[b + 1] += begin_[b];
  by_label_.resize(nodes_.size() - 1);
  std::array<uint32_t, 257> fill = begin_;
  for (uint32_t i = 1; i < nodes_.size(); ++i) by_label_[fill[nodes_[i].label]++] = i;
}

}  // namespace mllm::grammar
