// The statements of a template. What jinja2 knows and this does not is an error that names it.
#ifndef MINDIR_LLM_TEXT_TEMPLATE_PARSER_H_
#define MINDIR_LLM_TEXT_TEMPLATE_PARSER_H_

#include <string_view>

#include "text/template_ast.h"

namespace mllm::jinja {

// Throws FORMAT where it is malformed, UNSUPPORTED for what is left out here; both with the line.
Body parse(std::string_view source);

}  // namespace mllm::jinja

#endif  // MINDIR_LLM_TEXT_TEMPLATE_PARSER_H_
