#include "text/sentencepiece_bpe.h"

#include <algorithm>

#include "text/utf8.h"

namespace mllm::text {
namespace {

constexpr size_t kPairSlots = 1 << 20;

uint32_t packed(std::string_view character) {
  uint32_t value = 0;
  for (const char c : character) value = value << 8 | static_cast<unsigned char>(c);
  return value;
}

}  // namespace

size_t SentencePieceBpe::pair_slot(std::string_view left, std::string_view right) {
  const uint64_t h = (uint64_t{packed(left)} << 32 | packed(right)) * 0x9e3779b97f4a7c15u;
  return (h ^ h >> 29) >> 16 & (kPairSlots - 1);
}

SentencePieceBpe::SentencePieceBpe(const SentencePieceVocabulary& vocabulary)
    : vocabulary_(vocabulary), joined_(kPairSlots) {
  for (const SentencePiece& piece : vocabulary.model().pieces) {
    if (piece.type == PieceType::Unused) has_unused_ = true;
    if (piece.type != PieceType::Normal && piece.type != PieceType::UserDefined &&
        piece.type != PieceType::Unused) {
      continue;
    }
    std::string_view rest = piece.text;
    std::string_view last;
    while (!rest.empty()) {
      const std::string_view c = rest.substr(0, char_size(rest));
      if (!last.empty()) joined_[pair_slot(last, c)] = true;
      last = c;
      rest.remove_prefix(c.size());
    }
  }
}

void SentencePieceBpe::encode(std::string_view text, std::vector<int32_t>& ids) {
  const Trie& user_defined = vocabulary_.user_defined();
  size_t begin = 0;  // of the word
  size_t at = 0;
  std::string_view last;  // the character before `at`, where the word has one
  const auto end_word = [&] {
    if (at > begin) encode_word(text.substr(begin, at - begin), ids);
    begin = at;
    last = {};
  };
  while (at < text.size()) {
    const std::string_view rest = text.substr(at);
    if (user_defined.starts(rest[0])) {
      if (const Trie::Match whole = user_defined.longest(rest); whole.length) {
        end_word();
        const std::string_view piece = rest.substr(0, whole.length);
        vocabulary_.emit(piece, vocabulary_.text_id(piece), ids);
        at += whole.length;
        begin = at;
        continue;
      }
    }
    const std::string_view c = rest.substr(0, char_size(rest));
    if (!last.empty() && !joined_[pair_slot(last, c)]) end_word();
    last = c;
    at += c.size();
  }
  end_word();
}

void SentencePieceBpe::encode_word(std::string_view word, std::vector<int32_t>& ids) {
  if (cache_.find(word, ids)) return;
  const size_t before = ids.size();
  merge(word, ids);
  cache_.add(word, {ids.data() + before, ids.size() - before});
}

void SentencePieceBpe::propose(std::string_view word, int32_t left, int32_t right) {
  if (left < 0 || right < 0) return;
  const Symbol& l = symbols_[static_cast<size_t>(left)];
  const uint32_t size = l.size + symbols_[static_cast<size_t>(right)].size;
  const std::string_view piece = word.substr(l.begin, size);
  const int32_t id = vocabulary_.find_text(piece);
  if (id < 0) return;
  agenda_.push_back({vocabulary_[id].score, left, right, size});
  // The best score first; of equal ones the leftmost.
  std::push_heap(agenda_.begin(), agenda_.end(), [](const Pair& a, const Pair& b) {
    return a.score < b.score || (a.score == b.score && a.left > b.left);
  });
  if (has_unused_ && vocabulary_[id].type == PieceType::Unused) splits_.insert_or_assign(piece, l.size);
}

void SentencePieceBpe::merge(std::string_view word, std::vector<int32_t>& ids) {
  symbols_.clear();
  agenda_.clear();
  splits_.clear();
  for (size_t at = 0; at < word.size();) {
    const size_t size = char_size(word.substr(at));
    const auto index = static_cast<int32_t>(symbols_.size());
    symbols_.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(size), index - 1, index + 1});
    at += size;
  }
  symbols_.back().next = -1;
  for (size_t i = 1; i < symbols_.size(); ++i) {
    propose(word, static_cast<int32_t>(i) - 1, static_cast<int32_t>(i));
  }
  while (!agenda_.empty()) {
    std::pop_heap(agenda_.begin(), agenda_.end(), [](const Pair& a, const Pair& b) {
      return a.score < b.score || (a.score == b.score && a.left > b.left);
    });
    const Pair top = agenda_.back();
    agenda_.pop_back();
    Symbol& left = symbols_[static_cast<size_t>(top.left)];
    Symbol& right = symbols_[static_cast<size_t>(top.right)];
    if (left.size == 0 || right.size == 0 || left.size + right.size != top.size) continue;
    left.size = top.size;
    left.next = right.next;
    if (right.next >= 0) symbols_[static_cast<size_t>(right.next)].previous = top.left;
    right.size = 0;
    propose(word, left.previous, top.left);
    propose(word, top.left, left.next);
  }
  for (int32_t i = 0; i >= 0; i = symbols_[static_cast<size_t>(i)].next) {
    const Symbol& s = symbols_[static_cast<size_t>(i)];
    emit(word, s.begin, s.size, ids);
  }
}

void SentencePieceBpe::emit(std::string_view word, uint32_t begin, uint32_t size, std::vector<int32_t>& ids) {
  const std::string_view piece = word.substr(begin, size);
  const int32_t id = vocabulary_.text_id(piece);
  if (has_unused_ && vocabulary_[id].type == PieceType::Unused) {
    const auto split = splits_.find(piece);
    if (split != splits_.end()) {
      emit(word, begin, split->second, ids);
      emit(word, begin + split->second, size - split->second, ids);
      return;
    }
  }
  vocabulary_.emit(piece, id, ids);
}

}  // namespace mllm::text
