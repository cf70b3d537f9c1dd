// SentencePiece models written by hand: what they cut, decode and refuse. (The Python tests compare with the
// sentencepiece package.)
#include "text/sentencepiece.h"

#include <bit>
#include <string>
#include <vector>

#include "base/testing.h"
#include "mindir/testing.h"
#include "text/stream_decoder.h"
#include "text/utf8.h"

namespace mllm::text {
namespace {

using mllm::testing::Message;
using Ids = std::vector<int32_t>;

// A float field, little-endian.
std::string fixed32(uint32_t field, float value) {
  std::string out(1, static_cast<char>(field << 3 | 5));
  const auto bits = std::bit_cast<uint32_t>(value);
  for (int i = 0; i < 4; ++i) out += static_cast<char>(bits >> (8 * i));
  return out;
}

struct Builder {
  std::string bytes;
  Message trainer, normalizer;

  Builder& piece(const std::string& text, float score, uint64_t type = 1) {
    Message m;
    m.text(1, text).number(3, type);
    bytes += Message().text(1, m.bytes() + fixed32(2, score)).bytes();
    return *this;
  }
  std::string done() const {
    return bytes + Message().text(2, trainer.bytes()).bytes() + Message().text(3, normalizer.bytes()).bytes();
  }
};

Builder markers() {
  Builder b;
  b.piece("<unk>", 0, 2).piece("<s>", 0, 3).piece("</s>", 0, 3);
  return b;
}

// Merges "ab" before "bc", and "abc" last.
Builder bpe() {
  Builder b = markers();
  b.piece("a", -10).piece("b", -11).piece("c", -12).piece("\u2581", -13);
  b.piece("bc", -2).piece("ab", -1).piece("abc", -3).piece("\u2581a", -4);
  b.trainer.number(3, 2);
  b.normalizer.number(3, 0).number(4, 0);
  return b;
}

std::unique_ptr<Tokenizer> open(const Builder& b) {
  return read_sentencepiece(b.done(), "t.model");
}

Ids plain(Tokenizer& t, const std::string& text) {
  return t.encode(text, {.add_special = false, .parse_special = false});
}

TEST(merges_by_score_then_from_the_left) {
  const auto t = open(bpe());
  CHECK(plain(*t, "abc") == (Ids{9}));
  CHECK(plain(*t, "ababc") == (Ids{8, 9}));
  CHECK(plain(*t, "bbcc") == (Ids{4, 7, 5}));
  CHECK(plain(*t, " a") == (Ids{10}));
  CHECK(plain(*t, "").empty());
}

TEST(a_run_of_unknown_characters_is_one_token) {
  const auto t = open(bpe());
  CHECK(plain(*t, "xyzaxy") == (Ids{0, 3, 0}));
  CHECK(plain(*t, "\xff\xe2\x96") == (Ids{0}));
}

TEST(special_tokens_are_parsed_unless_told_otherwise) {
  const auto t = open(bpe());
  CHECK(t->encode("a</s><s>b") == (Ids{1, 3, 2, 1, 4}));
  CHECK(plain(*t, "</s>") == (Ids{0}));
  CHECK(t->kind(1) == TokenKind::Special);
  CHECK_EQ(t->decode(Ids{1, 3, 2}, false), std::string("<s>a</s>"));
  CHECK_EQ(t->decode(Ids{1, 3, 2}, true), std::string("a"));
}

TEST(user_defined_pieces_are_never_cut) {
  Builder b = bpe();
  b.piece("bca", 0, 4);
  const auto t = open(b);
  CHECK(plain(*t, "abca") == (Ids{3, 11}));
}

TEST(unused_pieces_are_taken_apart_again) {
  Builder b = bpe();
  b.piece("ca", -0.5f, 5);
  const auto t = open(b);
  CHECK(plain(*t, "ca") == (Ids{5, 3}));
}

TEST(bytes_stand_for_unknown_characters) {
  Builder b = markers();
  const char* digits = "0123456789ABCDEF";
  for (int i = 0; i < 256; ++i) b.piece(std::string("<0x") + digits[i / 16] + digits[i % 16] + ">", 0, 6);
  b.piece("a", -1);
  b.trainer.number(3, 2).number(35, 1);
  b.normalizer.number(3, 0).number(4, 0);
  const auto t = open(b);
  CHECK(plain(*t, "a\u00e9") == (Ids{259, 3 + 0xc3, 3 + 0xa9}));
  StreamDecoder decoder(*t, true);
  std::string out;
  decoder.push(3 + 0xc3, out);
  CHECK_EQ(out, std::string());
  decoder.push(3 + 0xa9, out);
  CHECK_EQ(out, std::string("\u00e9"));
  decoder.push(3 + 0xc3, out);
  decoder.push(259, out);
  CHECK_EQ(out, std::string("\u00e9\ufffda"));
}

TEST(the_most_probable_pieces_win) {
  Builder b = markers();
  b.piece("a", -1).piece("b", -1).piece("ab", -3).piece("bb", -1.5f).piece("\u2581", -1);
  b.normalizer.number(3, 1).number(4, 1);
  const auto t = open(b);
  CHECK(plain(*t, "ab") == (Ids{7, 3, 4}));
  CHECK(plain(*t, "  abb  ") == (Ids{7, 3, 6}));
  CHECK(plain(*t, "   ").empty());
  CHECK_EQ(t->decode(Ids{7, 3, 6}, true), std::string("abb"));
}

TEST(files_that_are_wrong_are_named) {
  const struct {
    std::string content;
    mllm_status status;
    const char* named;
  } cases[] = {
      {"", MLLM_ERROR_FORMAT, "empty"},
      {"hello", MLLM_ERROR_FORMAT, "not a SentencePiece model"},
      {Builder().piece("a", 0).done(), MLLM_ERROR_FORMAT, "no unknown piece"},
      {markers().piece("a", 0).piece("a", 0).done(), MLLM_ERROR_FORMAT, "piece 4 repeats"},
      {markers().piece("", 0).done(), MLLM_ERROR_FORMAT, "piece 3 is empty"},
      {markers().piece("<u>", 0, 2).done(), MLLM_ERROR_FORMAT, "second unknown"},
      {markers().piece("a", 0, 9).done(), MLLM_ERROR_FORMAT, "unknown type"},
      {markers().piece("<0xZZ>", 0, 6).done(), MLLM_ERROR_FORMAT, "stands for no byte"},
      {markers().piece("a", 0.f / 0.f).done(), MLLM_ERROR_FORMAT, "no number"},
      {[] {
         Builder b = bpe();
         b.trainer.number(35, 1);
         return b.done();
       }(),
       MLLM_ERROR_FORMAT, "256 byte pieces"},
      {[] {
         Builder b = bpe();
         b.normalizer.text(2, "\xff\xff\xff\x7f");
         return b.done();
       }(),
       MLLM_ERROR_FORMAT, "precompiled_charsmap"},
      {[] {
         Builder b = markers();
         b.trainer.number(3, 4);
         return b.done();
       }(),
       MLLM_ERROR_UNSUPPORTED, "character"},
  };
  for (const auto& c : cases) {
    try {
      read_sentencepiece(c.content, "t.model");
      mllm::testing::report(__FILE__, __LINE__, std::string("accepted what should say ") + c.named);
    } catch (const Error& e) {
      CHECK_EQ(e.status(), c.status);
      CHECK(std::string(e.what()).find("t.model") != std::string::npos);
      if (std::string(e.what()).find(c.named) == std::string::npos) {
        mllm::testing::report(__FILE__, __LINE__, std::string(e.what()) + " should say " + c.named);
      }
    }
  }
}

TEST(ids_outside_of_the_vocabulary_are_refused) {
  const auto t = open(bpe());
  CHECK_THROWS(t->decode(Ids{11}, true), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_THROWS(t->piece(-1), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_THROWS(t->set_special_ids({.bos = 11}, "x: "), MLLM_ERROR_FORMAT);
  CHECK_THROWS(t->set_special_ids({.add_eos = true}, "x: "), MLLM_ERROR_FORMAT);
}

TEST(bad_utf8_is_replaced_as_unicode_recommends) {
  CHECK_EQ(replace_invalid("a\xff\xe2\x96z\xf0\x9f\x98"), std::string("a\ufffd\ufffdz\ufffd"));
  CHECK_EQ(replace_invalid("\xed\xa0\x80\xc0\x80\xf4\x90"),
           std::string("\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd"));
  CHECK_EQ(replace_invalid("gut: \u00fc \U0001f600 123456789"),
           std::string("gut: \u00fc \U0001f600 123456789"));
}

}  // namespace
}  // namespace mllm::text

TEST_MAIN()
