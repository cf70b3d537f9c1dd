// Finds the tokenizer in a bundle, a checkpoint's folder or a file.
#ifndef MINDIR_LLM_TEXT_OPEN_H_
#define MINDIR_LLM_TEXT_OPEN_H_

#include <memory>
#include <string>

#include "text/tokenizer.h"

namespace mllm::text {

// Throws IO or FORMAT naming the file that is missing or damaged, UNSUPPORTED for a kind that is not known.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path);

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_OPEN_H_
