// What the opaque handles of the C interface are. A handle that may be closed while it is used is a pointer
// to its state: a call that is under way keeps the state.
#ifndef MINDIR_LLM_API_HANDLES_H_
#define MINDIR_LLM_API_HANDLES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "api/usage.h"
#include "generate/bundle.h"
#include "generate/generator.h"
#include "grammar/matcher.h"
#include "grammar/vocabulary.h"
#include "session/sampler.h"
#include "session/session.h"
#include "text/tokenizer.h"

namespace mllm::api {

struct SessionState {
  explicit SessionState(std::shared_ptr<Bundle> from) : bundle(std::move(from)), session(bundle->model()) {
    session.set_cancel_flag(&usage.cancelled());
  }
  Usage usage{"session"};
  std::shared_ptr<Bundle> bundle;  // before the session, which refers to it
  Session session;
  std::vector<uint8_t> saved = {};  // what mllm_session_save handed out
};

struct GeneratorState {
  explicit GeneratorState(std::shared_ptr<Bundle> bundle) : generator(std::move(bundle), usage.cancelled()) {}
  Usage usage{"generator"};
  Generator generator;
  Generation last = {};  // what the last call handed out
};

}  // namespace mllm::api

struct mllm_model {
  std::shared_ptr<mllm::Bundle> bundle;
};

struct mllm_session {
  std::shared_ptr<mllm::api::SessionState> state;
};

struct mllm_generator {
  std::shared_ptr<mllm::api::GeneratorState> state;
};

struct mllm_grammar {
  std::shared_ptr<mllm::grammar::CompiledGrammar> grammar;
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
