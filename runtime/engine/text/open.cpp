#include "text/open.h"

#include <filesystem>
#include <span>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "session/manifest.h"
#include "text/sentencepiece.h"

namespace mllm::text {
namespace {

// The largest known ones have about 35 MB.
constexpr size_t kMostBytes = 256u << 20;

bool exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

std::unique_ptr<Tokenizer> open_file(const std::string& path) {
  return read_sentencepiece(read_file(path, kMostBytes), path);
}

std::unique_ptr<Tokenizer> open_bundle(const std::string& bundle) {
  const Manifest manifest = Manifest::read(bundle);
  if (!manifest.tokenizer) {
    fail_argument(bundle + ": exported without a tokenizer; give token ids instead of text");
  }
  const BundleTokenizer& section = *manifest.tokenizer;
  // Wrong ids would only show as bad text, so files must be the ones that were exported.
  for (const std::string& name : section.files) {
    const std::string path = bundle + "/" + name;
    const std::string content = read_file(path, kMostBytes);
    const BundleFile& recorded = manifest.file(name);
    const std::span bytes(reinterpret_cast<const uint8_t*>(content.data()), content.size());
    if (content.size() != recorded.size || sha256_hex(bytes) != recorded.sha256) {
      fail_format(path + ": differs from what manifest.json recorded; copy or export the bundle again");
    }
  }
  std::unique_ptr<Tokenizer> tokenizer = open_file(bundle + "/" + section.files[0]);
  tokenizer->set_special_ids({.bos = section.bos_token_id,
                              .eos = section.eos_token_id,
                              .add_bos = section.add_bos_token,
                              .add_eos = section.add_eos_token,
                              .stop = section.stop_token_ids},
                             manifest.path + ": field tokenizer.");
  return tokenizer;
}

}  // namespace

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return open_file(path);
  if (exists(path + "/manifest.json")) return open_bundle(path);
  if (exists(path + "/tokenizer.model")) return open_file(path + "/tokenizer.model");
  fail_io(path + ": neither a bundle (manifest.json) nor a folder with a tokenizer");
}

}  // namespace mllm::text
