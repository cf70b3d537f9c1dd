// What a checkpoint's tokenizer_config.json and generation_config.json say.
#ifndef MINDIR_LLM_TEXT_SETTINGS_H_
#define MINDIR_LLM_TEXT_SETTINGS_H_

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "text/added_tokens.h"
#include "text/tokenizer.h"

namespace mllm::text {

struct TokenizerSettings {
  std::string tokenizer_class;  // "" where it is not said
  std::optional<bool> add_bos, add_eos;
  std::optional<std::string> bos, eos;  // spellings
  bool add_prefix_space = false;
  std::vector<AddedToken> added;

  // An absent file says nothing. Throws FORMAT naming a field that is wrong.
  static TokenizerSettings read(const std::string& folder);

  // `ids` of the tokenizer's own file, with what the settings say about them. Throws FORMAT for a spelling
  // that the tokenizer does not have.
  SpecialIds apply(SpecialIds ids, const Tokenizer& tokenizer, const std::string& folder) const;
};

// The fields that an added token has in every file.
AddedToken read_added_token(const Json& json, int64_t id);

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_SETTINGS_H_
