#include "session/manifest.h"

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace mllm {
namespace {

// A manifest is a few kB; a chat template may be long.
constexpr size_t kMostBytes = 16u << 20;
// Far above any network, low enough that products of a few of them stay in 64 bits.
constexpr int64_t kMostBatch = 4096;
constexpr int64_t kMostTokens = 1 << 24;
constexpr int64_t kMostSize = 1 << 24;
constexpr int64_t kMostLayers = 4096;
constexpr int64_t kMostRows = 1 << 20;

int32_t size_field(const Json& json, std::string_view name, int64_t most) {
  return static_cast<int32_t>(json.at(name).integer(1, most));
}

const std::string& choice(const Json& json, std::initializer_list<std::string_view> allowed) {
  const std::string& text = json.string();
  if (std::ranges::find(allowed, text) == allowed.end()) {
    std::string list;
    for (const std::string_view a : allowed) list += (list.empty() ? "" : ", ") + std::string(a);
    json.fail("\"" + text + "\" is not one of: " + list);
  }
  return text;
}

constexpr const char* kCaches[] = {"key_cache.", "value_cache.", "key_cache_scale.", "value_cache_scale."};

std::vector<std::string> signature(std::initializer_list<const char*> first, const Manifest& m) {
  std::vector<std::string> names(first.begin(), first.end());
  for (size_t i = 0; i < m.cache_count(); ++i) {
    names.push_back(kCaches[i % m.caches_per_layer()] + std::to_string(i / m.caches_per_layer()));
  }
  return names;
}

void read_kv_type(const Json& json, Manifest& m) {
  const std::string& name = choice(json.at("kv_dtype"), {"float16", "float32", "int8"});
  m.kv_dtype = name == "int8" ? DType::Int8 : name == "float16" ? DType::Float16 : DType::Float32;
  if (m.kv_dtype != DType::Int8) return;
  m.kv_scale_rows = choice(json.at("kv_granularity"), {"per_channel", "per_token"}) == "per_token";
}

void check_names(const Json& json, const std::vector<std::string>& expected) {
  const Json::Array& items = json.array();
  if (items.size() != expected.size()) {
    json.fail("has " + std::to_string(items.size()) + " names, expected " + std::to_string(expected.size()));
  }
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].string() != expected[i]) items[i].fail("expected \"" + expected[i] + "\"");
  }
}

std::vector<BundleFile> read_files(const Json& json) {
  std::vector<BundleFile> files;
  for (const auto& [name, entry] : json.object()) {
    if (!is_confined_path(name)) entry.fail("the name must stay inside of the bundle");
    const std::string& digest = entry.at("sha256").string();
    const bool is_hex =
        std::ranges::all_of(digest, [](char c) { return ('0' <= c && c <= '9') || ('a' <= c && c <= 'f'); });
    if (digest.size() != 64 || !is_hex) entry.at("sha256").fail("must be 64 lower-case hexadecimal digits");
    const int64_t size = entry.at("size").integer(0, std::numeric_limits<int64_t>::max());
    files.push_back({name, static_cast<uint64_t>(size), digest});
  }
  return files;
}

bool is_listed(const std::vector<BundleFile>& files, const std::string& name) {
  return std::ranges::find(files, name, &BundleFile::name) != files.end();
}

std::optional<BundleTokenizer> read_tokenizer(const Json& json, const Manifest& m) {
  if (json.is_null()) return std::nullopt;
  BundleTokenizer t;
  t.kind = choice(json.at("kind"), {kSentencePiece, kTokenizerJson, kVocabAndMerges, kTiktoken});
  for (const Json& name : json.at("files").array()) {
    if (!is_listed(m.files, name.string())) name.fail("\"" + name.string() + "\" is not listed under files");
    t.files.push_back(name.string());
  }
  if (t.files.empty()) json.at("files").fail("names no file");
  const auto id = [&](const Json& value, int64_t lowest) {
    return static_cast<int32_t>(value.integer(lowest, m.vocab_size - 1));
  };
  t.add_bos_token = json.at("add_bos_token").boolean();
  t.add_eos_token = json.at("add_eos_token").boolean();
  t.bos_token_id = id(json.at("bos_token_id"), -1);
  t.eos_token_id = id(json.at("eos_token_id"), -1);
  if (t.add_bos_token && t.bos_token_id < 0) json.at("add_bos_token").fail("there is no bos_token_id");
  if (t.add_eos_token && t.eos_token_id < 0) json.at("add_eos_token").fail("there is no eos_token_id");
  for (const Json& stop : json.at("stop_token_ids").array()) t.stop_token_ids.push_back(id(stop, 0));
  if (!json.at("chat_template").is_null()) t.chat_template = json.at("chat_template").string();
  return t;
}

}  // namespace

Manifest Manifest::read(const std::string& bundle) {
  Manifest m;
  m.path = bundle + "/manifest.json";
  m.text = read_file(m.path, kMostBytes);
  const Json json = Json::parse(m.text, m.path);
  choice(json.at("format"), {"mindir-llm-bundle"});
  const int64_t version = json.at("format_version").integer(1, std::numeric_limits<int64_t>::max());
  if (version > kBundleFormatVersion) {
    json.at("format_version")
        .fail("version " + std::to_string(version) +
              " is newer than this engine, which reads up to version " +
              std::to_string(kBundleFormatVersion) + "; update mindir-llm");
  }
  json.at("producer").string();
  choice(json.at("target"), {"cpu", "ascend"});
  choice(json.at("dtype"), {"float16", "float32"});
  read_kv_type(json, m);
  m.batch_size = size_field(json, "batch_size", kMostBatch);
  m.max_seq_len = size_field(json, "max_seq_len", kMostTokens);
  m.prefill_chunk = size_field(json, "prefill_chunk", m.max_seq_len);
  if (int64_t{m.batch_size} * m.prefill_chunk > kMostRows)
    json.at("prefill_chunk").fail("too large for this batch size");

  const Json& model = json.at("model");
  m.vocab_size = size_field(model, "vocab_size", kMostSize);
  m.num_layers = size_field(model, "num_hidden_layers", kMostLayers);
  m.num_kv_heads = size_field(model, "num_key_value_heads", kMostSize);
  m.head_dim = size_field(model, "head_dim", kMostSize);
  choice(json.at("quantization").at("scheme"), {"none", "a16w8", "a16w4", "a8w8-dynamic", "a8w8"});

  const Json& graphs = json.at("graphs");
  m.prefill_graph = graphs.at("prefill").string();
  m.decode_graph = graphs.at("decode").string();
  m.inputs = signature({"input_ids", "input_position", "batch_valid_length"}, m);
  m.outputs = signature({"logits"}, m);
  check_names(json.at("inputs"), m.inputs);
  check_names(json.at("outputs"), m.outputs);
  m.files = read_files(json.at("files"));
  for (const char* which : {"prefill", "decode"}) {
    const Json& name = graphs.at(which);
    if (!is_listed(m.files, name.string())) {
      name.fail("\"" + name.string() + "\" is not listed under files");
    }
  }
  m.tokenizer = read_tokenizer(json.at("tokenizer"), m);
  return m;
}

TensorType Manifest::cache_type(size_t index) const {
  const bool is_scale = index % caches_per_layer() >= 2;
  return {is_scale ? DType::Float32 : kv_dtype,
          {batch_size, num_kv_heads, max_seq_len, is_scale ? 1 : head_dim}};
}

const BundleFile& Manifest::file(const std::string& name) const {
  const auto found = std::ranges::find(files, name, &BundleFile::name);
  if (found == files.end()) fail_format(path + ": field files: " + name + " is not listed");
  return *found;
}

}  // namespace mllm
