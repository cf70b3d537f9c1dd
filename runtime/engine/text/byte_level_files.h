// The files in which byte-level BPE tokenizers come: tokenizer.json, vocab.json with merges.txt, tiktoken
// ranks.
#ifndef MINDIR_LLM_TEXT_BYTE_LEVEL_FILES_H_
#define MINDIR_LLM_TEXT_BYTE_LEVEL_FILES_H_

#include <memory>
#include <string>
#include <string_view>

#include "text/byte_level.h"
#include "text/settings.h"

namespace mllm::text {

// Each throws FORMAT naming the file and what is wrong, UNSUPPORTED for what is valid but not covered. `file`
// is for messages.
std::unique_ptr<Tokenizer> read_tokenizer_json(std::string_view content, const std::string& file);

// The tokenizer class of the settings says which pattern cuts words.
std::unique_ptr<Tokenizer> read_vocab_and_merges(std::string_view vocab, const std::string& vocab_file,
                                                 std::string_view merges, const std::string& merges_file,
                                                 const TokenizerSettings& settings);

// Whether a tokenizer.model holds tiktoken ranks: lines of base64, a blank and a number.
bool is_tiktoken(std::string_view content);
// Llama 3's pattern; special tokens are those of the settings, or those that Llama 3 began with.
std::unique_ptr<Tokenizer> read_tiktoken(std::string_view content, const std::string& file,
                                         const TokenizerSettings& settings);

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_BYTE_LEVEL_FILES_H_
