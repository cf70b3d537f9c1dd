// The regular expressions of JSON schemas (ECMA-262) as grammars of JSON strings.
#ifndef MINDIR_LLM_GRAMMAR_PATTERN_H_
#define MINDIR_LLM_GRAMMAR_PATTERN_H_

#include <string>
#include <string_view>

#include "grammar/json_text.h"

namespace mllm::grammar {

// What stands between the quotes of a JSON string (see `escaped`) that the pattern is found in. Throws
// INVALID_ARGUMENT or UNSUPPORTED beginning with `where`: there is no lookaround, no reference to a group, no
// \b, no \p, and ^ and $ only at the ends of the pattern's outermost alternatives.
Expression parse_pattern(Grammar& grammar, JsonText& json, std::string_view pattern,
                         const std::string& where);

// A pattern for a value of the keyword "format"; nullptr where there is none.
const char* pattern_of_format(std::string_view format);

}  // namespace mllm::grammar

#endif  // MINDIR_LLM_GRAMMAR_PATTERN_H_
