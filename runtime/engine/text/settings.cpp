#include "text/settings.h"

#include <charconv>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"

namespace mllm::text {
namespace {

constexpr size_t kMostBytes = 64u << 20;

std::optional<Json> read_json(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::nullopt;
  return Json::parse(read_file(path, kMostBytes), path);
}

bool flag(const Json& json, const char* name) {
  const Json* found = json.find(name);
  return found && !found->is_null() && found->boolean();
}

std::optional<bool> optional_flag(const Json& json, const char* name) {
  const Json* found = json.find(name);
  if (!found || found->is_null()) return std::nullopt;
  return found->boolean();
}

// "</s>" or {"content": "</s>", …}
std::optional<std::string> spelling(const Json& json, const char* name) {
  const Json* found = json.find(name);
  if (!found || found->is_null()) return std::nullopt;
  return found->is_object() ? found->at("content").string() : found->string();
}

// Ids that end a text: generation_config.json decides where it speaks, config.json otherwise.
std::vector<int32_t> stop_ids(const std::string& folder, int32_t vocab_size) {
  std::vector<int32_t> ids;
  for (const char* name : {"/generation_config.json", "/config.json"}) {
    const std::optional<Json> json = read_json(folder + name);
    const Json* found = json ? json->find("eos_token_id") : nullptr;
    if (!found || found->is_null()) continue;
    const auto add = [&](const Json& id) {
      ids.push_back(static_cast<int32_t>(id.integer(0, vocab_size - 1)));
    };
    if (found->is_array()) {
      for (const Json& id : found->array()) add(id);
    } else {
      add(*found);
    }
    break;
  }
  return ids;
}

}  // namespace

AddedToken read_added_token(const Json& json, int64_t id) {
  AddedToken token;
  token.id = static_cast<int32_t>(id);
  token.content = json.at("content").string();
  if (token.content.empty()) json.at("content").fail("an added token must not be empty");
  token.special = flag(json, "special");
  token.normalized = flag(json, "normalized");
  token.single_word = flag(json, "single_word");
  token.lstrip = flag(json, "lstrip");
  token.rstrip = flag(json, "rstrip");
  return token;
}

TokenizerSettings TokenizerSettings::read(const std::string& folder) {
  TokenizerSettings out;
  const std::optional<Json> json = read_json(folder + "/tokenizer_config.json");
  if (!json) return out;
  if (const Json* name = json->find("tokenizer_class"); name && !name->is_null())
    out.tokenizer_class = name->string();
  out.add_bos = optional_flag(*json, "add_bos_token");
  out.add_eos = optional_flag(*json, "add_eos_token");
  out.bos = spelling(*json, "bos_token");
  out.eos = spelling(*json, "eos_token");
  out.add_prefix_space = flag(*json, "add_prefix_space");
  if (const Json* added = json->find("added_tokens_decoder"); added && !added->is_null()) {
    for (const auto& [key, token] : added->object()) {
      int32_t id = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (error != std::errc() || end != key.data() + key.size() || id < 0)
        token.fail("the key is no token id");
      out.added.push_back(read_added_token(token, id));
    }
  }
  return out;
}

SpecialIds TokenizerSettings::apply(SpecialIds ids, const Tokenizer& tokenizer,
                                    const std::string& folder) const {
  const auto find = [&](const std::optional<std::string>& spelled, const char* name, int32_t otherwise) {
    if (!spelled) return otherwise;
    const int32_t id = tokenizer.find(*spelled);
    if (id < 0) {
      fail_format(folder + "/tokenizer_config.json: field " + name + ": \"" + *spelled +
                  "\" is not in the tokenizer");
    }
    return id;
  };
  ids.bos = find(bos, "bos_token", ids.bos);
  ids.eos = find(eos, "eos_token", ids.eos);
  if (add_bos) ids.add_bos = *add_bos && ids.bos >= 0;
  if (add_eos) ids.add_eos = *add_eos && ids.eos >= 0;
  ids.stop = stop_ids(folder, tokenizer.vocab_size());
  if (ids.stop.empty() && ids.eos >= 0) ids.stop = {ids.eos};
  return ids;
}

}  // namespace mllm::text
