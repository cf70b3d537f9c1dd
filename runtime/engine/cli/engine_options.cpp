#include "cli/engine_options.h"

#include "cli/failure.h"

namespace mllm::cli {

Model open_model(const Arguments& arguments) {
  const mllm_model_options options = {
      .struct_size = sizeof(mllm_model_options),
      .threads = static_cast<int32_t>(arguments.integer("--threads").value_or(0)),
      .verify_weights = 0,
      .exact = arguments.has("--exact")};
  mllm_model* model = nullptr;
  check(mllm_model_open(arguments.positional().c_str(), &options, &model));
  return Model(model);
}

mllm_model_info info_of(const Model& model) {
  mllm_model_info info;
  check(mllm_model_get_info(model.get(), &info));
  return info;
}

}  // namespace mllm::cli
