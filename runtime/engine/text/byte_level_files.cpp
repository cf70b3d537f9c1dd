#include "text/byte_level_files.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/json.h"
#include "text/merge_rules.h"

namespace mllm::text {
namespace {

// Calls line(text, number) for each line, without its end.
template <class F>
void each_line(std::string_view text, F&& line) {
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view one = text.substr(0, end);
    if (one.ends_with('\r')) one.remove_suffix(1);
    line(one, number);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

// False where the text is no base64.
bool decode_base64(std::string_view text, std::string& out) {
  out.clear();
  if (text.empty() || text.size() % 4 != 0) return false;
  uint32_t bits = 0;
  size_t padding = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const int digit = base64_digit(text[i]);
    if (text[i] == '=' && i + 2 >= text.size()) {
      ++padding;
    } else if (digit < 0 || padding) {
      return false;
    }
    bits = bits << 6 | static_cast<uint32_t>(std::max(digit, 0));
    if (i % 4 != 3) continue;
    for (int shift = 16; shift >= 0; shift -= 8) out += static_cast<char>(bits >> shift);
    bits = 0;
  }
  out.resize(out.size() - padding);
  return true;
}

// "base64 rank"
bool read_rank(std::string_view line, std::string& bytes, int32_t& rank) {
  const size_t blank = line.find(' ');
  if (blank == std::string_view::npos || !decode_base64(line.substr(0, blank), bytes)) return false;
  const std::string_view number = line.substr(blank + 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), rank);
  return error == std::errc() && end == number.data() + number.size() && rank >= 0;
}

std::vector<AddedToken> llama3_special_tokens(int32_t first) {
  std::vector<std::string> names = {"<|begin_of_text|>",
                                    "<|end_of_text|>",
                                    "<|reserved_special_token_0|>",
                                    "<|reserved_special_token_1|>",
                                    "<|reserved_special_token_2|>",
                                    "<|reserved_special_token_3|>",
                                    "<|start_header_id|>",
                                    "<|end_header_id|>",
                                    "<|reserved_special_token_4|>",
                                    "<|eot_id|>"};
  for (int i = 5; names.size() < 256; ++i)
    names.push_back("<|reserved_special_token_" + std::to_string(i) + "|>");
  std::vector<AddedToken> tokens;
  for (const std::string& name : names) {
    AddedToken token;
    token.id = first + static_cast<int32_t>(tokens.size());
    token.content = name;
    token.special = true;
    tokens.push_back(token);
  }
  return tokens;
}

int32_t id_of(const std::vector<AddedToken>& tokens, std::string_view content) {
  const auto found = std::ranges::find(tokens, content, &AddedToken::content);
  return found == tokens.end() ? -1 : found->id;
}

// Bytes of a token of a rank file: every way of cutting it is looked up, and those in use have 128 at most.
constexpr size_t kLongestRanked = 1024;

// Every way in which two tokens make up a third one, in the order in which tiktoken prefers them.
void add_rank_merges(ByteLevelModel& model) {
  const ByteLevelVocabulary& vocabulary = model.vocabulary;
  std::vector<MergeTable::Merge> ways;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary.has(id)) continue;
    const std::string_view bytes = vocabulary.bytes(id);
    ways.clear();
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      const int32_t left = vocabulary.find_bytes(bytes.substr(0, cut));
      const int32_t right = left < 0 ? -1 : vocabulary.find_bytes(bytes.substr(cut));
      if (right >= 0) ways.push_back({left, right, id});
    }
    std::ranges::sort(ways, [](const auto& a, const auto& b) {
      return a.left != b.left ? a.left < b.left : a.right < b.right;
    });
    for (const auto& way : ways) model.merges.add(way);
  }
}

}  // namespace

std::unique_ptr<Tokenizer> read_vocab_and_merges(std::string_view vocab, const std::string& vocab_file,
                                                 std::string_view merges, const std::string& merges_file,
                                                 const TokenizerSettings& settings) {
  auto model = std::make_unique<ByteLevelModel>();
  JsonReader reader(vocab, vocab_file);
  reader.object([&](const std::string& spelling) {
    const auto id = static_cast<int32_t>(reader.integer(0, ByteLevelVocabulary::kMostIds - 1));
    if (!model->vocabulary.add_spelling(spelling, id))
      fail_format(vocab_file + ": the id " + std::to_string(id) + " appears twice");
  });
  reader.end();
  model->vocabulary.finish(vocab_file + ": ");
  each_line(merges, [&](std::string_view line, size_t number) {
    if (line.empty() || (number == 1 && line.starts_with("#version"))) return;
    add_merge(line, merges_file + ": line " + std::to_string(number) + ": ", *model);
  });

  std::string family = settings.tokenizer_class;
  if (family.ends_with("Fast")) family.resize(family.size() - 4);
  if (family == "Qwen2Tokenizer") {
    model->nfc = true;
    model->pre_tokenizer.add_split(Regex(kQwen2Pattern, ""), PreTokenizer::Keep::All);
  } else if (family == "GPT2Tokenizer" || family.empty()) {
    if (settings.add_prefix_space) model->pre_tokenizer.add_space_prefix();
    model->pre_tokenizer.add_split(Regex(kGpt2Pattern, ""), PreTokenizer::Keep::All);
  } else {
    fail_unsupported(vocab_file + ": how the tokenizer class \"" + settings.tokenizer_class +
                     "\" cuts words is not known; save the tokenizer as tokenizer.json");
  }
  model->added = settings.added;
  return make_byte_level(std::move(model), vocab_file + ": ");
}

bool is_tiktoken(std::string_view content) {
  std::string bytes;
  int32_t rank = 0;
  return read_rank(content.substr(0, std::min(content.find('\n'), content.size())), bytes, rank);
}

std::unique_ptr<Tokenizer> read_tiktoken(std::string_view content, const std::string& file,
                                         const TokenizerSettings& settings) {
  auto model = std::make_unique<ByteLevelModel>();
  std::string bytes;
  each_line(content, [&](std::string_view line, size_t number) {
    if (line.empty()) return;
    const std::string where = file + ": line " + std::to_string(number) + ": ";
    int32_t rank = 0;
    if (!read_rank(line, bytes, rank)) fail_format(where + "expected base64, a blank and a rank");
    if (bytes.size() > kLongestRanked)
      fail_format(where + "a token of " + std::to_string(bytes.size()) + " bytes, at most " +
                  std::to_string(kLongestRanked) + " are possible");
    if (!model->vocabulary.add_bytes(bytes, rank))
      fail_format(where + "the rank " + std::to_string(rank) + " is too large or appears twice");
  });
  model->vocabulary.finish(file + ": ");
  add_rank_merges(*model);
  model->ignore_merges = true;
  model->pre_tokenizer.add_split(Regex(kLlama3Pattern, ""), PreTokenizer::Keep::All);
  model->added = settings.added.empty() ? llama3_special_tokens(model->vocabulary.size()) : settings.added;
  model->special.bos = id_of(model->added, "<|begin_of_text|>");
  model->special.eos = id_of(model->added, "<|end_of_text|>");
  model->special.add_bos = model->special.bos >= 0;
  if (model->special.eos >= 0) model->special.stop = {model->special.eos};
  return make_byte_level(std::move(model), file + ": ");
}

}  // namespace mllm::text
