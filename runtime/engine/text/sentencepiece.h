// SentencePiece tokenizers: BPE and unigram models.
#ifndef MINDIR_LLM_TEXT_SENTENCEPIECE_H_
#define MINDIR_LLM_TEXT_SENTENCEPIECE_H_

#include <memory>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace mllm::text {

// `content` of a tokenizer.model; `file` is for messages. Throws FORMAT or UNSUPPORTED.
std::unique_ptr<Tokenizer> read_sentencepiece(std::string_view content, const std::string& file);

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_SENTENCEPIECE_H_
