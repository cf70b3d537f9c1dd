// What the opaque handles of the C interface are.
#ifndef MINDIR_LLM_API_HANDLES_H_
#define MINDIR_LLM_API_HANDLES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "grammar/vocabulary.h"
#include "session/model.h"
#include "session/sampler.h"
#include "session/session.h"
#include "text/tokenizer.h"

struct mllm_model {
  std::unique_ptr<mllm::Model> model;
};

struct mllm_session {
  mllm::Session session;
  std::vector<uint8_t> saved = {};  // what mllm_session_save handed out
};

struct mllm_sampler {
  mllm_sampler(const mllm::SamplingParams& params, int32_t vocab)
      : sampler(params, vocab), vocab_size(vocab) {}
  mllm::Sampler sampler;
  int32_t vocab_size;
};

struct mllm_tokenizer {
  std::unique_ptr<mllm::text::Tokenizer> tokenizer;
  std::vector<int32_t> ids = {};                                     // of the last encode
  std::string text = {};                                             // of the last decode or token
  std::string piece = {};                                            // of the last token
  std::shared_ptr<const mllm::grammar::Vocabulary> vocabulary = {};  // once a grammar has asked for it
};

#endif  // MINDIR_LLM_API_HANDLES_H_
