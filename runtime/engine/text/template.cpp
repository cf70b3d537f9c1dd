#include "text/template.h"

#include "base/error.h"
#include "text/template_context.h"
#include "text/template_parser.h"
#include "text/template_render.h"

namespace mllm {
namespace {

// 1900 to 2999.
constexpr int64_t kFirstTime = -2'208'988'800;
constexpr int64_t kLastTime = 32'503'679'999;

}  // namespace

ChatTemplate::ChatTemplate(std::string_view source) : body_(jinja::parse(source)) {}

std::string ChatTemplate::render(const Json& variables, int64_t local_time) const {
  if (local_time < kFirstTime || local_time > kLastTime) {
    fail_argument("chat template: the local time is not within the years 1900 to 2999");
  }
  variables.object();
  jinja::Context context(jinja::Limits{}, local_time);
  const jinja::Value values = jinja::from_json(variables);
  return jinja::Renderer(context, std::move(*values.dict())).run(body_);
}

}  // namespace mllm
