// Options and results of a generation, between C and C++.
#ifndef MINDIR_LLM_API_GENERATE_OPTIONS_H_
#define MINDIR_LLM_API_GENERATE_OPTIONS_H_

#include <cstddef>

#include "generate/generator.h"
#include "include/mindir_llm.h"

namespace mllm::api {

// Throws INVALID_ARGUMENT where the structure is malformed. NULL: the defaults.
GenerateOptions read_generate_options(const mllm_generate_options* given);

// result may be NULL; it points into `from`.
void write_generation(const Generation& from, size_t dropped_messages, mllm_generation* result);

}  // namespace mllm::api

#endif  // MINDIR_LLM_API_GENERATE_OPTIONS_H_
