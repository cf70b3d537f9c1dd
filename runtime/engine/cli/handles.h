// The engine's handles, closed where they go out of scope.
#ifndef MINDIR_LLM_CLI_HANDLES_H_
#define MINDIR_LLM_CLI_HANDLES_H_

#include <memory>

#include "include/mindir_llm.h"

namespace mllm::cli {

template <auto kClose>
struct Closer {
  template <class T>
  void operator()(T* handle) const {
    kClose(handle);
  }
};

using Model = std::unique_ptr<mllm_model, Closer<mllm_model_close>>;
using Session = std::unique_ptr<mllm_session, Closer<mllm_session_close>>;
using Generator = std::unique_ptr<mllm_generator, Closer<mllm_generator_close>>;
using Chat = std::unique_ptr<mllm_chat, Closer<mllm_chat_close>>;
using Tokenizer = std::unique_ptr<mllm_tokenizer, Closer<mllm_tokenizer_close>>;
using Grammar = std::unique_ptr<mllm_grammar, Closer<mllm_grammar_close>>;
using Graph = std::unique_ptr<mllm_graph, Closer<mllm_graph_close>>;

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_HANDLES_H_
