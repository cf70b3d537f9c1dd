// The C interface of chat templates.
#include "text/template.h"

#include <memory>

#include "api/errors.h"
#include "text/local_time.h"

using mllm::api::guard;
using mllm::api::require;

struct mllm_template {
  mllm::ChatTemplate parsed;
  std::string text;
};

extern "C" {

mllm_status mllm_template_open(const char* source, size_t size, mllm_template** chat_template) {
  return guard([&] {
    require(source, "source");
    require(chat_template, "chat_template");
    *chat_template = nullptr;
    *chat_template = new mllm_template{mllm::ChatTemplate({source, size}), {}};
  });
}

void mllm_template_close(mllm_template* chat_template) {
  delete chat_template;
}

mllm_status mllm_template_render(mllm_template* chat_template, const char* variables,
                                 const mllm_template_options* options, const char** text, size_t* size) {
  return guard([&] {
    require(chat_template, "chat_template");
    require(variables, "variables");
    require(text, "text");
    require(size, "size");
    if (options && options->struct_size != sizeof *options) {
      mllm::fail_argument("options.struct_size does not fit this library");
    }
    const mllm::Json json = mllm::Json::parse(variables, "chat template variables");
    chat_template->text =
        chat_template->parsed.render(json, options ? options->local_time : mllm::text::local_time_now());
    *text = chat_template->text.c_str();
    *size = chat_template->text.size();
  });
}
}
