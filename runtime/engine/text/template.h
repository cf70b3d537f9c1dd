// Chat templates: the Jinja of tokenizer_config.json, rendered as jinja2 does under Hugging Face's settings.
#ifndef MINDIR_LLM_TEXT_TEMPLATE_H_
#define MINDIR_LLM_TEXT_TEMPLATE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"
#include "text/template_ast.h"

namespace mllm {

class ChatTemplate {
 public:
  // Throws FORMAT or UNSUPPORTED with the line of what is malformed or not known here.
  explicit ChatTemplate(std::string_view source);

  // variables: an object of messages, tools, add_generation_prompt, bos_token and whatever else the template
  // reads. local_time: what strftime_now writes, in seconds since 1970 on the local clock. Throws
  // INVALID_ARGUMENT with the line where the template complains or fails, and where it takes too long.
  std::string render(const Json& variables, int64_t local_time) const;

 private:
  jinja::Body body_;
};

}  // namespace mllm

#endif  // MINDIR_LLM_TEXT_TEMPLATE_H_
