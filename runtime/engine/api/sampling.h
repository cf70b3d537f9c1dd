// Sampling parameters, from C.
#ifndef MINDIR_LLM_API_SAMPLING_H_
#define MINDIR_LLM_API_SAMPLING_H_

#include "include/mindir_llm.h"
#include "session/sampler.h"

namespace mllm::api {

// Throws INVALID_ARGUMENT where mllm_sampling_params_init was not called.
SamplingParams read_sampling_params(const mllm_sampling_params* params);

}  // namespace mllm::api

#endif  // MINDIR_LLM_API_SAMPLING_H_
