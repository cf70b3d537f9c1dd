#include "text/sentencepiece_unigram.h"

#include <algorithm>
#include <limits>

#include "text/utf8.h"

namespace mllm::text {
namespace {

// An unknown character is this much worse than the worst piece.
constexpr float kUnknownPenalty = 10.0f;
// A user-defined piece gains this for each byte but the first, whatever score its file says: enough to be
// taken before anything of negative scores. SentencePiece 0.2.3; earlier versions had -0.1 for all of them.
constexpr float kUserDefinedGain = 0.1f;

bool is_text(PieceType type) {
  return type == PieceType::Normal || type == PieceType::UserDefined || type == PieceType::Unused;
}

// The best way to spell a text up to some place.
struct Node {
  float score = 0;
  int32_t id = -1;
  uint32_t begin = 0;
  bool reached = false;
};

}  // namespace

SentencePieceUnigram::SentencePieceUnigram(const SentencePieceVocabulary& vocabulary)
    : vocabulary_(vocabulary) {
  std::vector<Trie::Key> keys;
  float worst = std::numeric_limits<float>::max();
  const auto& pieces = vocabulary.model().pieces;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (is_text(pieces[i].type)) keys.emplace_back(pieces[i].text, static_cast<int32_t>(i));
    if (pieces[i].type != PieceType::Normal) continue;
    worst = std::min(worst, pieces[i].score);
  }
  pieces_ = Trie(std::move(keys));
  unknown_score_ = worst - kUnknownPenalty;
}

void SentencePieceUnigram::encode(std::string_view text, std::vector<int32_t>& ids) {
  const int32_t unknown = vocabulary_.model().unknown;
  std::vector<Node> nodes(text.size() + 1);
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    const size_t character = char_size(rest);
    const float so_far = nodes[at].score;
    bool known = false;
    const auto offer = [&](int32_t id, size_t length, float score) {
      Node& node = nodes[at + length];
      const float candidate = score + so_far;
      if (node.reached && !(candidate > node.score)) return;
      node = {candidate, id, static_cast<uint32_t>(at), true};
    };
    pieces_.prefixes(rest, [&](int32_t id, size_t length) {
      const SentencePiece& piece = vocabulary_[id];
      if (piece.type == PieceType::Unused) return;
      const bool user_defined = piece.type == PieceType::UserDefined;
      offer(id, length, user_defined ? static_cast<float>(length - 1) * kUserDefinedGain : piece.score);
      known = known || length == character;
    });
    if (!known) offer(unknown, character, unknown_score_);
    at += character;
  }
  std::vector<uint32_t> ends;
  for (size_t end = text.size(); end > 0; end = nodes[end].begin) ends.push_back(static_cast<uint32_t>(end));
  for (auto end = ends.rbegin(); end != ends.rend(); ++end) {
    const Node& node = nodes[*end];
    vocabulary_.emit(text.substr(node.begin, *end - node.begin), node.id, ids);
  }
}

}  // namespace mllm::text
