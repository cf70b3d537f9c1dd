// The C interface of the sampler.
#include "session/sampler.h"

#include <memory>
#include <string>

#include "api/errors.h"
#include "api/handles.h"
#include "api/sampling.h"

namespace mllm::api {

SamplingParams read_sampling_params(const mllm_sampling_params* params) {
  if (params->struct_size != sizeof(mllm_sampling_params)) {
    fail_argument("params->struct_size must be " + std::to_string(sizeof(mllm_sampling_params)) + ", got " +
                  std::to_string(params->struct_size) + ": call mllm_sampling_params_init first");
  }
  return {params->temperature,
          params->top_k,
          params->top_p,
          params->min_p,
          params->repetition_penalty,
          params->presence_penalty,
          params->frequency_penalty,
          params->seed};
}

}  // namespace mllm::api

extern "C" {

void mllm_sampling_params_init(mllm_sampling_params* params) {
  if (!params) return;
  const mllm::SamplingParams d;
  *params = {
      sizeof(mllm_sampling_params), d.temperature,       d.top_k, d.top_p, d.min_p, d.repetition_penalty,
      d.presence_penalty,           d.frequency_penalty, d.seed};
}

mllm_status mllm_sampler_create(const mllm_sampling_params* params, int32_t vocab_size,
                                mllm_sampler** sampler) {
  return mllm::api::guard([&] {
    mllm::api::require(params, "params");
    mllm::api::require(sampler, "sampler");
    *sampler = nullptr;
    *sampler = new mllm_sampler(mllm::api::read_sampling_params(params), vocab_size);
  });
}

void mllm_sampler_close(mllm_sampler* sampler) {
  delete sampler;
}

mllm_status mllm_sampler_add_prompt(mllm_sampler* sampler, const int32_t* tokens, size_t n_tokens) {
  return mllm::api::guard([&] {
    mllm::api::require(sampler, "sampler");
    if (n_tokens) mllm::api::require(tokens, "tokens");
    sampler->sampler.add_prompt({tokens, n_tokens});
  });
}

mllm_status mllm_sampler_sample(mllm_sampler* sampler, const float* logits, const int32_t* banned,
                                size_t n_banned, int32_t* token, float* logprob) {
  return mllm::api::guard([&] {
    mllm::api::require(sampler, "sampler");
    mllm::api::require(logits, "logits");
    mllm::api::require(token, "token");
    if (n_banned) mllm::api::require(banned, "banned");
    const mllm::Sample s =
        sampler->sampler.sample({logits, static_cast<size_t>(sampler->vocab_size)}, {banned, n_banned});
    *token = s.token;
    if (logprob) *logprob = s.logprob;
  });
}

mllm_status mllm_top_logprobs(const float* logits, int32_t vocab_size, int32_t n, int32_t* tokens,
                              float* logprobs) {
  return mllm::api::guard([&] {
    mllm::api::require(logits, "logits");
    mllm::api::require(tokens, "tokens");
    mllm::api::require(logprobs, "logprobs");
    if (vocab_size < 1 || n < 1 || n > vocab_size) {
      mllm::fail_argument("n must be 1 to the vocabulary size " + std::to_string(vocab_size) + ", got " +
                          std::to_string(n));
    }
    mllm::top_logprobs({logits, static_cast<size_t>(vocab_size)}, {tokens, static_cast<size_t>(n)},
                       {logprobs, static_cast<size_t>(n)});
  });
}
}
