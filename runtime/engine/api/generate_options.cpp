#include "api/generate_options.h"

#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "api/errors.h"
#include "api/handles.h"
#include "api/sampling.h"
#include "api/structs.h"

namespace mllm::api {
namespace {

// Sizes in the first version; later fields are optional.
constexpr size_t kFirstOptions = offsetof(mllm_generate_options, user) + sizeof(void*);
constexpr size_t kFirstGeneration = offsetof(mllm_generation, decode_seconds) + sizeof(double);

template <class T>
std::span<const T> list(const T* items, size_t count, const char* name) {
  if (count) require(items, name);
  return {items, count};
}

std::vector<std::string> texts(const char* const* items, size_t count, const char* name) {
  std::vector<std::string> out;
  for (const char* one : list(items, count, name)) {
    require(one, name);
    out.emplace_back(one);
  }
  return out;
}

uint64_t system_seed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

mllm_finish_reason c_reason(FinishReason reason) {
  switch (reason) {
    case FinishReason::Stop:
      return MLLM_FINISH_STOP;
    case FinishReason::Length:
      return MLLM_FINISH_LENGTH;
    case FinishReason::Cancelled:
      return MLLM_FINISH_CANCELLED;
    case FinishReason::None:
      break;
  }
  fail_internal("a generation that has not ended");
}

}  // namespace

GenerateOptions read_generate_options(const mllm_generate_options* given) {
  const mllm_generate_options o = read_struct(given, kFirstOptions, "mllm_generate_options");
  GenerateOptions out;
  if (o.sampling) out.sampling = read_sampling_params(o.sampling);
  if (o.random_seed) out.sampling.seed = system_seed();
  out.max_tokens = o.max_tokens;
  out.min_tokens = o.min_tokens;
  out.ignore_eos = o.ignore_eos != 0;
  out.reuse = o.no_reuse == 0;
  out.stop = texts(o.stop, o.n_stop, "stop");
  const auto ids = list(o.stop_tokens, o.n_stop_tokens, "stop_tokens");
  out.stop_tokens.assign(ids.begin(), ids.end());
  out.bad_words = texts(o.bad_words, o.n_bad_words, "bad_words");
  for (const mllm_logit_bias& one : list(o.logit_bias, o.n_logit_bias, "logit_bias"))
    out.logit_bias.emplace_back(one.token, one.bias);
  if (o.grammar) out.grammar = o.grammar->grammar;
  if (o.on_piece) {
    out.on_piece = [call = o.on_piece, user = o.user](const Piece& piece) {
      const mllm_piece c = {.text = piece.text.c_str(),
                            .text_bytes = piece.text.size(),
                            .token = piece.token,
                            .logprob = piece.logprob,
                            .logits = piece.logits.data()};
      return call(user, &c) == 0;
    };
  }
  return out;
}

void write_generation(const Generation& from, size_t dropped_messages, mllm_generation* result) {
  if (!result) return;
  const mllm_generation value = {.struct_size = 0,
                                 .finish_reason = c_reason(from.finish_reason),
                                 .stop_token = from.stop_token,
                                 .stop_index = from.stop_index,
                                 .is_full = from.is_full ? 1 : 0,
                                 .prompt_tokens = static_cast<int32_t>(from.prompt_tokens),
                                 .cached_tokens = static_cast<int32_t>(from.cached_tokens),
                                 .dropped_messages = static_cast<int32_t>(dropped_messages),
                                 .text = from.text.c_str(),
                                 .text_bytes = from.text.size(),
                                 .tokens = from.tokens.data(),
                                 .n_tokens = from.tokens.size(),
                                 .prompt_seconds = from.prompt_seconds,
                                 .decode_seconds = from.decode_seconds};
  write_struct(result, value, kFirstGeneration, "mllm_generation");
}

}  // namespace mllm::api
