// manifest.json of a bundle, read and checked.
#ifndef MINDIR_LLM_SESSION_MANIFEST_H_
#define MINDIR_LLM_SESSION_MANIFEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/tensor.h"

namespace mllm {

inline constexpr int64_t kBundleFormatVersion = 1;

struct BundleFile {
  std::string name;  // relative to the bundle, stays inside it
  uint64_t size = 0;
  std::string sha256;
};

// The kinds of tokenizer, as manifest.json names them.
inline constexpr const char* kSentencePiece = "sentencepiece";   // tokenizer.model
inline constexpr const char* kTokenizerJson = "tokenizer.json";  // that file
inline constexpr const char* kVocabAndMerges = "vocab+merges";   // vocab.json, merges.txt
inline constexpr const char* kTiktoken = "tiktoken";             // tokenizer.model: ranks

struct BundleTokenizer {
  std::string kind;
  std::vector<std::string> files;  // listed in the manifest's `files`
  bool add_bos_token = false;
  bool add_eos_token = false;
  int32_t bos_token_id = -1;  // -1: none
  int32_t eos_token_id = -1;
  std::vector<int32_t> stop_token_ids;
  std::optional<std::string> chat_template;
};

struct Manifest {
  // Reads BUNDLE/manifest.json. Throws IO, or FORMAT naming file and field; a newer format version is
  // refused, naming the supported one.
  static Manifest read(const std::string& bundle);

  const BundleFile& file(const std::string& name) const;  // throws FORMAT when it is not listed

  std::string path;  // of manifest.json, for messages
  std::string text;  // verbatim
  int32_t batch_size = 0;
  int32_t max_seq_len = 0;
  int32_t prefill_chunk = 0;
  int32_t vocab_size = 0;
  int32_t num_layers = 0;
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;
  DType kv_dtype = DType::Float32;
  bool kv_scale_rows = false;  // each row of an int8 cache has a scale, in a cache of its own
  std::string prefill_graph;   // file names, listed in `files`
  std::string decode_graph;
  std::vector<std::string> inputs;  // as the graphs must have them
  std::vector<std::string> outputs;
  std::vector<BundleFile> files;
  std::optional<BundleTokenizer> tokenizer;

  // How many caches there are, and the type of one, in the order of the signature.
  size_t cache_count() const { return static_cast<size_t>(num_layers) * caches_per_layer(); }
  TensorType cache_type(size_t index) const;

  size_t caches_per_layer() const { return kv_scale_rows ? 4 : 2; }
};

}  // namespace mllm

#endif  // MINDIR_LLM_SESSION_MANIFEST_H_
