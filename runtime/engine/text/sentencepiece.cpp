#include "text/sentencepiece.h"

#include <cstdio>
#include <utility>

#include "base/error.h"
#include "text/sentencepiece_bpe.h"
#include "text/sentencepiece_normalizer.h"
#include "text/sentencepiece_unigram.h"
#include "text/sentencepiece_vocabulary.h"
#include "text/utf8.h"

namespace mllm::text {

SentencePieceVocabulary::SentencePieceVocabulary(SentencePieceFile model, const std::string& file)
    : model_(std::move(model)), text_(model_.pieces.size()) {
  std::vector<Trie::Key> user_defined;
  for (size_t i = 0; i < model_.pieces.size(); ++i) {
    const SentencePiece& piece = model_.pieces[i];
    const auto id = static_cast<int32_t>(i);
    const bool reserved =
        piece.type == PieceType::Unknown || piece.type == PieceType::Control || piece.type == PieceType::Byte;
    if (!(reserved ? reserved_ : text_).insert(piece.text, id))
      fail_format(file + ": piece " + std::to_string(i) + " repeats an earlier one");
    if (piece.type == PieceType::UserDefined) user_defined.emplace_back(piece.text, id);
  }
  user_defined_ = Trie(std::move(user_defined));
}

namespace {

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(SentencePieceFile model, const std::string& file)
      : vocabulary_(std::move(model), file),
        normalizer_(vocabulary_.model(), vocabulary_.user_defined(), file),
        bpe_(vocabulary_),
        unigram_(vocabulary_.model().algorithm == SentencePieceFile::Algorithm::Unigram
                     ? std::make_unique<SentencePieceUnigram>(vocabulary_)
                     : nullptr) {
    const SentencePieceFile& m = vocabulary_.model();
    vocab_size_ = static_cast<int32_t>(m.pieces.size());
    rules_ = {.strip_first_space = m.add_dummy_prefix || m.remove_extra_whitespaces,
              .strip_all_first_spaces = m.remove_extra_whitespaces,
              .byte_fallback = true};
    const auto control = [&](const std::string& piece) {
      const int32_t id = vocabulary_.id(piece);
      return vocabulary_[id].type == PieceType::Control ? id : -1;
    };
    special_.bos = control(m.bos_piece);
    special_.eos = control(m.eos_piece);
    special_.add_bos = special_.bos >= 0;
    if (special_.eos >= 0) special_.stop = {special_.eos};
  }

  int32_t find(std::string_view piece) const override {
    const int32_t id = vocabulary_.id(piece);
    return vocabulary_[id].text == piece ? id : -1;
  }

 protected:
  void encode_text(std::string_view text, bool parse_special, std::vector<int32_t>& ids) override {
    if (!parse_special) {
      encode_plain(text, ids);
      return;
    }
    // Each stretch of text between special tokens is encoded for itself, as the original Llama code does.
    const Trie& spellings = special_spellings();
    size_t begin = 0;
    for (size_t at = 0; at < text.size();) {
      const Trie::Match match =
          spellings.starts(text[at]) ? spellings.longest(text.substr(at)) : Trie::Match{};
      if (!match.length) {
        ++at;
        continue;
      }
      encode_plain(text.substr(begin, at - begin), ids);
      ids.push_back(match.value);
      at += match.length;
      begin = at;
    }
    encode_plain(text.substr(begin), ids);
  }

  TokenKind kind_of(int32_t id) const override {
    switch (vocabulary_[id].type) {
      case PieceType::Unknown:
      case PieceType::Control:
        return TokenKind::Special;
      case PieceType::Byte:
        return TokenKind::Byte;
      default:
        return TokenKind::Text;
    }
  }

  std::string piece_of(int32_t id) const override { return vocabulary_[id].text; }

  std::string bytes_of(int32_t id) const override {
    const std::string& text = vocabulary_[id].text;
    if (vocabulary_[id].type == PieceType::Byte) {
      unsigned byte = 0;
      std::sscanf(text.c_str(), "<0x%2X>", &byte);
      return std::string(1, static_cast<char>(byte));
    }
    std::string out;
    for (size_t at = 0; at < text.size();) {
      if (text.compare(at, kVisibleSpace.size(), kVisibleSpace) == 0) {
        out += ' ';
        at += kVisibleSpace.size();
      } else {
        out += text[at++];
      }
    }
    return out;
  }

 private:
  void encode_plain(std::string_view text, std::vector<int32_t>& ids) {
    if (text.empty()) return;
    const std::string normalized = normalizer_.normalize(text);
    const size_t before = ids.size();
    if (unigram_) {
      unigram_->encode(normalized, ids);
    } else {
      bpe_.encode(normalized, ids);
    }
    if (vocabulary_.model().byte_fallback) return;
    // A run of unknown characters is one unknown token.
    const int32_t unknown = vocabulary_.model().unknown;
    const auto same = [&](int32_t a, int32_t b) { return a == unknown && b == unknown; };
    ids.erase(std::unique(ids.begin() + static_cast<ptrdiff_t>(before), ids.end(), same), ids.end());
  }

  // The settings around the file may name further special tokens, so this is made when it is needed.
  const Trie& special_spellings() {
    if (!spellings_) {
      std::vector<Trie::Key> keys;
      for (int32_t id = 0; id < vocab_size_; ++id) {
        if (kind(id) == TokenKind::Special) keys.emplace_back(vocabulary_[id].text, id);
      }
      spellings_ = std::make_unique<Trie>(std::move(keys));
    }
    return *spellings_;
  }

  SentencePieceVocabulary vocabulary_;
  SentencePieceNormalizer normalizer_;
  SentencePieceBpe bpe_;
  std::unique_ptr<SentencePieceUnigram> unigram_;
  std::unique_ptr<Trie> spellings_;
};

}  // namespace

std::unique_ptr<Tokenizer> read_sentencepiece(std::string_view content, const std::string& file) {
  return std::make_unique<SentencePieceTokenizer>(SentencePieceFile::parse(content, file), file);
}

}  // namespace mllm::text
