// The C interface of generators.
#include <utility>

#include "api/errors.h"
#include "api/generate_options.h"
#include "api/handles.h"

using mllm::api::guard;
using mllm::api::require;

namespace {

void generate(mllm::api::GeneratorState& state, std::span<const int32_t> prompt,
              const mllm_generate_options* options, mllm_generation* generation,
              const mllm::api::Usage::Call& call) {
  mllm::Generation done = state.generator.run(prompt, mllm::api::read_generate_options(options));
  call.check_open();
  state.last = std::move(done);
  mllm::api::write_generation(state.last, 0, generation);
}

}  // namespace

extern "C" {

mllm_status mllm_generator_create(mllm_model* model, mllm_generator** generator) {
  return guard([&] {
    require(model, "model");
    require(generator, "generator");
    *generator = nullptr;
    *generator = new mllm_generator{std::make_shared<mllm::api::GeneratorState>(model->bundle)};
  });
}

void mllm_generator_close(mllm_generator* generator) {
  if (!generator) return;
  const auto state = generator->state;
  state->usage.close();
  delete generator;
}

void mllm_generator_cancel(mllm_generator* generator) {
  if (generator) generator->state->usage.cancel();
}

mllm_status mllm_generate_text(mllm_generator* generator, const char* prompt, size_t prompt_bytes,
                               const mllm_generate_options* options, mllm_generation* generation) {
  return guard([&] {
    require(generator, "generator");
    if (prompt_bytes) require(prompt, "prompt");
    const auto state = generator->state;
    const mllm::api::Usage::Call call(state->usage);
    generate(*state, state->generator.encode({prompt, prompt_bytes}, true), options, generation, call);
  });
}

mllm_status mllm_generate_tokens(mllm_generator* generator, const int32_t* prompt, size_t n_prompt,
                                 const mllm_generate_options* options, mllm_generation* generation) {
  return guard([&] {
    require(generator, "generator");
    if (n_prompt) require(prompt, "prompt");
    const auto state = generator->state;
    const mllm::api::Usage::Call call(state->usage);
    generate(*state, {prompt, n_prompt}, options, generation, call);
  });
}
}
