#include "session/manifest.h"

#include <stdexcept>
#include <string>

#include "base/testing.h"

namespace mllm {
namespace {

const std::string kGood = R"({
  "batch_size": 2, "dtype": "float16", "kv_dtype": "float16", "max_seq_len": 32, "prefill_chunk": 8,
  "format": "mindir-llm-bundle", "format_version": 1, "producer": "test", "target": "cpu",
  "graphs": {"decode": "decode.mindir", "prefill": "prefill.mindir"},
  "inputs": ["input_ids", "input_position", "batch_valid_length", "key_cache.0", "value_cache.0"],
  "outputs": ["logits", "key_cache.0", "value_cache.0"],
  "model": {"vocab_size": 50, "num_hidden_layers": 1, "num_key_value_heads": 2, "head_dim": 4},
  "quantization": {"scheme": "none"}, "tokenizer": null,
  "files": {
    "decode.mindir": {"size": 3, "sha256": "0000000000000000000000000000000000000000000000000000000000000000"},
    "prefill.mindir": {"size": 4, "sha256": "0000000000000000000000000000000000000000000000000000000000000001"}
  }
})";

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  if (at == std::string::npos) throw std::runtime_error("no " + from);
  return text.replace(at, from.size(), to);
}

Manifest read(const std::string& text) {
  const testing::Folder folder;
  folder.write("manifest.json", text);
  return Manifest::read(folder.path());
}

TEST(reads_what_is_there) {
  const Manifest m = read(kGood);
  CHECK_EQ(m.batch_size, 2);
  CHECK_EQ(m.vocab_size, 50);
  for (size_t i = 0; i < m.cache_count(); ++i)
    CHECK(m.cache_type(i) == (TensorType{DType::Float16, {2, 2, 32, 4}}));
  CHECK_EQ(m.file("decode.mindir").size, 3u);
  CHECK_EQ(m.text, kGood);
  CHECK_THROWS(m.file("weights/data_0"), MLLM_ERROR_FORMAT);
}

std::string with_int8_caches(const char* granularity) {
  return replaced(kGood, "\"kv_dtype\": \"float16\"",
                  std::string("\"kv_dtype\": \"int8\", \"kv_granularity\": \"") + granularity + "\"");
}

TEST(int8_caches) {
  const Manifest channels = read(with_int8_caches("per_channel"));
  CHECK_EQ(channels.cache_count(), 2u);
  CHECK(channels.cache_type(1) == (TensorType{DType::Int8, {2, 2, 32, 4}}));

  std::string text = with_int8_caches("per_token");
  for (int i = 0; i < 2; ++i) {  // of inputs and of outputs
    text = replaced(text, "\"value_cache.0\"]",
                    "\"value_cache.0\", \"key_cache_scale.0\", \"value_cache_scale.0\"]");
  }
  const Manifest rows = read(text);
  CHECK_EQ(rows.cache_count(), 4u);
  CHECK(rows.cache_type(0) == (TensorType{DType::Int8, {2, 2, 32, 4}}));
  CHECK(rows.cache_type(3) == (TensorType{DType::Float32, {2, 2, 32, 1}}));
}

TEST(wrong_fields_are_named) {
  const struct {
    const char *from, *to, *named;
  } cases[] = {
      {"\"batch_size\": 2", "\"batch_size\": 0", "batch_size"},
      {"\"batch_size\": 2", "\"batch_size\": \"2\"", "batch_size"},
      {"\"batch_size\": 2,", "", "batch_size"},
      {"\"batch_size\": 2", "\"batch_size\": 99999999999", "batch_size"},
      {"\"prefill_chunk\": 8", "\"prefill_chunk\": 33", "prefill_chunk"},
      {"mindir-llm-bundle", "other", "format"},
      {"\"format_version\": 1", "\"format_version\": 2", "up to version 1"},
      {"\"target\": \"cpu\"", "\"target\": \"gpu\"", "target"},
      {"\"kv_dtype\": \"float16\"", "\"kv_dtype\": \"int4\"", "kv_dtype"},
      {"\"kv_dtype\": \"float16\"", "\"kv_dtype\": \"int8\"", "kv_granularity"},
      {"\"kv_dtype\": \"float16\"", "\"kv_dtype\": \"int8\", \"kv_granularity\": \"per_head\"", "per_token"},
      {"\"kv_dtype\": \"float16\"", "\"kv_dtype\": \"int8\", \"kv_granularity\": \"per_token\"", "inputs"},
      {"\"scheme\": \"none\"", "\"scheme\": \"a4w4\"", "quantization.scheme"},
      {"\"vocab_size\": 50", "\"vocab_size\": -1", "model.vocab_size"},
      {"\"input_position\",", "\"position\",", "inputs"},
      {"[\"logits\", ", "[", "outputs"},
      {"\"decode\": \"decode.mindir\"", "\"decode\": \"other.mindir\"", "graphs.decode"},
      {"\"decode.mindir\": {", "\"../decode.mindir\": {", "stay inside"},
      {"\"decode.mindir\": {", "\"/decode.mindir\": {", "stay inside"},
      {"\"size\": 3", "\"size\": -3", "size"},
      {"00000001\"", "0000000Z\"", "sha256"},
      {"\"sha256\": \"0000", "\"sha256\": \"", "sha256"},
      {"\"tokenizer\": null,", "\"tokenizer\": null", "manifest.json"},
      {"\"tokenizer\": null,", "", "tokenizer: missing"},
      {"\"tokenizer\": null,", "\"tokenizer\": {},", "tokenizer.kind"},
  };
  for (const auto& c : cases) {
    try {
      read(replaced(kGood, c.from, c.to));
      mllm::testing::report(__FILE__, __LINE__, std::string("accepted ") + c.to);
    } catch (const Error& e) {
      CHECK_EQ(e.status(), MLLM_ERROR_FORMAT);
      const std::string message = e.what();
      if (message.find(c.named) == std::string::npos || message.find("manifest.json") == std::string::npos ||
          message.find('\n') != std::string::npos) {
        mllm::testing::report(__FILE__, __LINE__, message + " should name " + c.named);
      }
    }
  }
}

const std::string kTokenizer = R"({"kind": "sentencepiece", "files": ["decode.mindir"], "add_bos_token": true,
  "add_eos_token": false, "bos_token_id": 1, "eos_token_id": -1, "stop_token_ids": [2, 49], "chat_template": "x"})";

TEST(reads_the_tokenizer) {
  CHECK(!read(kGood).tokenizer.has_value());
  const auto t = read(replaced(kGood, "null", kTokenizer)).tokenizer;
  CHECK_EQ(t->kind, std::string("sentencepiece"));
  CHECK_EQ(t->files.size(), 1u);
  CHECK(t->add_bos_token && !t->add_eos_token);
  CHECK_EQ(t->bos_token_id, 1);
  CHECK_EQ(t->eos_token_id, -1);
  CHECK(t->stop_token_ids == (std::vector<int32_t>{2, 49}));
  CHECK(t->chat_template == "x");
}

TEST(wrong_fields_of_the_tokenizer_are_named) {
  const struct {
    const char *from, *to, *named;
  } cases[] = {
      {"\"sentencepiece\"", "\"wordpiece\"", "tokenizer.kind"},
      {"[\"decode.mindir\"]", "[]", "tokenizer.files"},
      {"[\"decode.mindir\"]", "[\"../x\"]", "tokenizer.files[0]"},
      {"\"add_bos_token\": true", "\"add_bos_token\": 1", "tokenizer.add_bos_token"},
      {"\"add_eos_token\": false", "\"add_eos_token\": true", "no eos_token_id"},
      {"\"bos_token_id\": 1", "\"bos_token_id\": 50", "tokenizer.bos_token_id"},
      {"\"eos_token_id\": -1", "\"eos_token_id\": -2", "tokenizer.eos_token_id"},
      {"[2, 49]", "[2, 50]", "tokenizer.stop_token_ids[1]"},
      {"[2, 49]", "[-1]", "tokenizer.stop_token_ids[0]"},
      {"\"x\"", "3", "tokenizer.chat_template"},
  };
  for (const auto& c : cases) {
    try {
      read(replaced(kGood, "null", replaced(kTokenizer, c.from, c.to)));
      mllm::testing::report(__FILE__, __LINE__, std::string("accepted ") + c.to);
    } catch (const Error& e) {
      CHECK_EQ(e.status(), MLLM_ERROR_FORMAT);
      CHECK(std::string(e.what()).find(c.named) != std::string::npos);
    }
  }
}

TEST(a_missing_bundle_is_an_io_error) {
  CHECK_THROWS(Manifest::read("/nonexistent"), MLLM_ERROR_IO);
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
