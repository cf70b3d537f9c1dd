#include "text/open.h"

#include <filesystem>
#include <functional>
#include <span>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "session/manifest.h"
#include "text/byte_level_files.h"
#include "text/sentencepiece.h"
#include "text/settings.h"

namespace mllm::text {
namespace {

// The largest known ones have about 35 MB.
constexpr size_t kMostBytes = 256u << 20;

bool exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

std::string read(const std::string& path) {
  return read_file(path, kMostBytes);
}

std::unique_ptr<Tokenizer> open_model_file(const std::string& path, const std::string& content,
                                           const TokenizerSettings& settings) {
  return is_tiktoken(content) ? read_tiktoken(content, path, settings) : read_sentencepiece(content, path);
}

std::unique_ptr<Tokenizer> open_vocab_and_merges(const std::string& folder,
                                                 const TokenizerSettings& settings) {
  const std::string vocab = folder + "/vocab.json";
  const std::string merges = folder + "/merges.txt";
  return read_vocab_and_merges(read(vocab), vocab, read(merges), merges, settings);
}

std::unique_ptr<Tokenizer> open_file(const std::string& path) {
  if (path.ends_with(".json")) return read_tokenizer_json(read(path), path);
  return open_model_file(path, read(path), {});
}

// Wrong ids would only show as bad text, so files must be the ones that were exported.
void check_files(const std::string& bundle, const Manifest& manifest) {
  for (const std::string& name : manifest.tokenizer->files) {
    const std::string path = bundle + "/" + name;
    const std::string content = read(path);
    const BundleFile& recorded = manifest.file(name);
    const std::span bytes(reinterpret_cast<const uint8_t*>(content.data()), content.size());
    if (content.size() != recorded.size || sha256_hex(bytes) != recorded.sha256)
      fail_format(path + ": differs from what manifest.json recorded; copy or export the bundle again");
  }
}

std::unique_ptr<Tokenizer> open_bundle(const std::string& bundle) {
  const Manifest manifest = Manifest::read(bundle);
  if (!manifest.tokenizer)
    fail_argument(bundle + ": exported without a tokenizer; pass prompt_token_ids instead of text");
  const BundleTokenizer& section = *manifest.tokenizer;
  check_files(bundle, manifest);
  std::unique_ptr<Tokenizer> tokenizer;
  if (section.kind == kTokenizerJson) {
    tokenizer = open_file(bundle + "/tokenizer.json");
  } else if (section.kind == kVocabAndMerges) {
    tokenizer = open_vocab_and_merges(bundle, TokenizerSettings::read(bundle));
  } else if (section.kind == kTiktoken) {
    const std::string path = bundle + "/tokenizer.model";
    tokenizer = read_tiktoken(read(path), path, TokenizerSettings::read(bundle));
  } else {
    const std::string path = bundle + "/" + section.files[0];
    tokenizer = read_sentencepiece(read(path), path);
  }
  tokenizer->set_special_ids({.bos = section.bos_token_id,
                              .eos = section.eos_token_id,
                              .add_bos = section.add_bos_token,
                              .add_eos = section.add_eos_token,
                              .stop = section.stop_token_ids},
                             manifest.path + ": field tokenizer.");
  return tokenizer;
}

std::unique_ptr<Tokenizer> open_checkpoint(const std::string& folder) {
  const TokenizerSettings settings = TokenizerSettings::read(folder);
  std::unique_ptr<Tokenizer> tokenizer;
  // A SentencePiece model says more than the tokenizer.json made from it, tiktoken ranks say less.
  const std::string model = folder + "/tokenizer.model";
  const std::string content = exists(model) ? read(model) : "";
  const bool has_json = exists(folder + "/tokenizer.json");
  if (exists(model) && !(has_json && is_tiktoken(content))) {
    tokenizer = open_model_file(model, content, settings);
  } else if (has_json) {
    tokenizer = open_file(folder + "/tokenizer.json");
  } else if (exists(folder + "/vocab.json") && exists(folder + "/merges.txt")) {
    tokenizer = open_vocab_and_merges(folder, settings);
  } else {
    fail_io(folder +
            ": neither a bundle (manifest.json) nor a folder with tokenizer.model, tokenizer.json, or "
            "vocab.json and "
            "merges.txt");
  }
  tokenizer->set_special_ids(settings.apply(tokenizer->special_ids(), *tokenizer, folder), folder + ": ");
  return tokenizer;
}

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return open_file(path);
  return exists(path + "/manifest.json") ? open_bundle(path) : open_checkpoint(path);
}

}  // namespace mllm::text
