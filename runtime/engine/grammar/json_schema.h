// JSON schemas (draft 2020-12, and what older drafts call otherwise) as grammars of the documents that they
// allow.
#ifndef MINDIR_LLM_GRAMMAR_JSON_SCHEMA_H_
#define MINDIR_LLM_GRAMMAR_JSON_SCHEMA_H_

#include <string_view>

#include "grammar/expressions.h"

namespace mllm::grammar {

// Every text of the grammar is a document that is valid under the schema. Throws FORMAT where the schema is
// no JSON, INVALID_ARGUMENT where it is no schema or allows nothing, UNSUPPORTED naming keyword and place for
// what cannot be honoured. docs/structured_output.md says what holds.
Grammar parse_json_schema(std::string_view schema);

// Any JSON object.
Grammar json_object();

}  // namespace mllm::grammar

#endif  // MINDIR_LLM_GRAMMAR_JSON_SCHEMA_H_
