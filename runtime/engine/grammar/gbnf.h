// GBNF, the grammar notation of llama.cpp.
#ifndef MINDIR_LLM_GRAMMAR_GBNF_H_
#define MINDIR_LLM_GRAMMAR_GBNF_H_

#include <string_view>

#include "grammar/expressions.h"

namespace mllm::grammar {

// Throws INVALID_ARGUMENT naming line and column where the text is malformed, a rule is missing or defined
// twice, or something is too large.
Grammar parse_gbnf(std::string_view text);

}  // namespace mllm::grammar

#endif  // MINDIR_LLM_GRAMMAR_GBNF_H_
