// Byte-level tokenizers from files written by hand. (The Python tests compare with the tokenizers package.)
#include <string>
#include <vector>

#include "base/testing.h"
#include "text/byte_level_files.h"

namespace mllm::text {
namespace {

using Ids = std::vector<int32_t>;

const std::string kVocab = R"({"a":0,"b":1,"c":2,"Ġ":3,"ab":4,"bc":5,"abc":6,"Ġa":7,"Ã":8,"©":9})";
const std::string kMerges = "#version: 0.2\na b\nb c\nab c\nĠ a\n";

std::unique_ptr<Tokenizer> open(const TokenizerSettings& settings = {}) {
  return read_vocab_and_merges(kVocab, "vocab.json", kMerges, "merges.txt", settings);
}

AddedToken added(int32_t id, const std::string& content, bool special) {
  AddedToken token;
  token.id = id;
  token.content = content;
  token.special = special;
  return token;
}

TEST(merges_in_their_order) {
  const auto t = open();
  CHECK(t->encode("abc ab bc a") == (Ids{6, 3, 4, 3, 5, 7}));
  CHECK(t->encode("x\u00e9") == (Ids{8, 9}));  // bytes without a token vanish
  CHECK_EQ(t->decode(Ids{7, 1, 8, 9}, true), std::string(" ab\u00e9"));
  CHECK_EQ(t->decode(Ids{8, 0, 8}, true), std::string("\ufffda\ufffd"));
  CHECK_EQ(t->piece(7), std::string("\u0120a"));
  CHECK_EQ(t->find("\u0120a"), 7);
  CHECK_EQ(t->find("x"), -1);
}

TEST(long_words_are_merged_like_short_ones) {
  const auto t = open();
  std::string text;
  Ids expected;
  for (int i = 0; i < 200; ++i) {
    text += i % 3 ? "abc" : "bca";
    expected.push_back(i % 3 ? 6 : 5);
    if (i % 3 == 0) expected.push_back(0);
  }
  const Ids ids = t->encode(text);
  CHECK_EQ(t->decode(ids, true), text);
  // "bca" + "abc": the pair of "a b" across the border is taken where it comes first.
  Ids by_parts;
  for (int i = 0; i < 200; i += 3) {
    for (const int32_t id : t->encode(text.substr(static_cast<size_t>(i) * 3, 9))) by_parts.push_back(id);
  }
  CHECK(ids == by_parts);
}

TEST(added_tokens) {
  TokenizerSettings settings;
  settings.added = {added(10, "<s>", true), added(11, "<s>x", false)};
  const auto t = open(settings);
  CHECK_EQ(t->vocab_size(), 12);
  CHECK(t->encode("a<s>b<s>xc") == (Ids{0, 10, 1, 11, 2}));
  CHECK(t->encode("a<s>b", {.parse_special = false}) == (Ids{0, 1}));
  CHECK(t->kind(10) == TokenKind::Special && t->kind(11) == TokenKind::Text);
  CHECK_EQ(t->decode(Ids{8, 10, 9, 11}, true), std::string("\u00e9<s>x"));
  CHECK_EQ(t->decode(Ids{8, 10, 9}, false), std::string("\ufffd<s>\ufffd"));
}

TEST(tiktoken_ranks) {
  const std::string ranks = "YQ== 0\nYg== 1\nIA== 2\nYWI= 3\nYWJh 4\nIGFi 5\n";
  CHECK(is_tiktoken(ranks));
  CHECK(!is_tiktoken("hello"));
  CHECK(!is_tiktoken(""));
  const auto t = read_tiktoken(ranks, "tokenizer.model", {});
  CHECK_EQ(t->vocab_size(), 6 + 256);
  CHECK(t->encode("aba ab") == (Ids{6, 4, 5}));
  CHECK_EQ(t->decode(Ids{6, 4}, false), std::string("<|begin_of_text|>aba"));
  for (const char* wrong : {"YQ== 0\nYg==\n", "YQ== 0\nYg== 0\n", "YQ== 0\nYQ== 1\n", "YQ== 0\nY=== 1\n",
                            "YQ== 0\nYg== -1\n", "YQ== 99999999\n", "YQ== 0\nYg== 1x\n"}) {
    CHECK_THROWS(read_tiktoken(wrong, "tokenizer.model", {}), MLLM_ERROR_FORMAT);
  }
}

TEST(a_tokenizer_json) {
  const std::string head = R"({"version":"1.0","model":{"type":"BPE","merges":[["a","b"],"ab c"],"vocab":)";
  const std::string tail =
      R"(,"ignore_merges":false},"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true},
    "added_tokens":[{"id":10,"content":"<s>","special":true}],
    "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},
      {"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[10],"tokens":["<s>"]}}}})";
  const auto t = read_tokenizer_json(head + kVocab + tail, "tokenizer.json");
  CHECK(t->encode("abc") == (Ids{10, 3, 6}));
  CHECK(t->encode("abc", {.add_special = false}) == (Ids{3, 6}));
  CHECK_THROWS(read_tokenizer_json(head + kVocab, "tokenizer.json"), MLLM_ERROR_FORMAT);
  CHECK_THROWS(read_tokenizer_json("{}", "tokenizer.json"), MLLM_ERROR_FORMAT);
  CHECK_THROWS(read_tokenizer_json(head + kVocab + "}}", "tokenizer.json"), MLLM_ERROR_UNSUPPORTED);
}

TEST(files_that_contradict_themselves_are_refused) {
  const auto opens = [](const std::string& vocab, const std::string& merges, const char* family = "") {
    TokenizerSettings settings;
    settings.tokenizer_class = family;
    return read_vocab_and_merges(vocab, "vocab.json", merges, "merges.txt", settings);
  };
  CHECK_THROWS(opens("{}", ""), MLLM_ERROR_FORMAT);
  CHECK_THROWS(opens("{\"a\":0,\"b\":0}", ""), MLLM_ERROR_FORMAT);
  CHECK_THROWS(opens("{\"a\":0,\"a\":1}", ""), MLLM_ERROR_FORMAT);
  CHECK_THROWS(opens("{\"a\":9000000}", ""), MLLM_ERROR_FORMAT);
  CHECK_THROWS(opens(kVocab, "a\n"), MLLM_ERROR_FORMAT);
  CHECK_THROWS(opens(kVocab, "a b c\n"), MLLM_ERROR_FORMAT);
  CHECK_THROWS(opens(kVocab, "c a\n"), MLLM_ERROR_FORMAT);
  CHECK_THROWS(opens(kVocab, kMerges, "BertTokenizer"), MLLM_ERROR_UNSUPPORTED);
}

}  // namespace
}  // namespace mllm::text

TEST_MAIN()
