// A template's tokens, with Hugging Face's settings: trim_blocks and lstrip_blocks on, {% {{ {# as
// delimiters.
#ifndef MINDIR_LLM_TEXT_TEMPLATE_LEXER_H_
#define MINDIR_LLM_TEXT_TEMPLATE_LEXER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mllm::jinja {

struct Token {
  enum class Kind {
    Data,
    OutputBegin,
    OutputEnd,
    BlockBegin,
    BlockEnd,
    Name,
    String,
    Integer,
    Float,
    Operator,
    End
  };
  Kind kind;
  int line;
  std::string text;  // of strings without quotation marks and escapes
  int64_t integer = 0;
  double number = 0;
};

// Throws FORMAT with the line where the source is malformed.
std::vector<Token> tokenize(std::string_view source);

// Every complaint about a template is made here: "chat template: line 3: …".
[[noreturn]] void fail_template(int line, const std::string& why);

}  // namespace mllm::jinja

#endif  // MINDIR_LLM_TEXT_TEMPLATE_LEXER_H_
