// The options about choosing tokens and stopping, of every command that generates.
#ifndef MINDIR_LLM_CLI_SAMPLING_OPTIONS_H_
#define MINDIR_LLM_CLI_SAMPLING_OPTIONS_H_

#include <string>
#include <vector>

#include "cli/handles.h"
#include "cli/options.h"
#include "include/mindir_llm.h"

namespace mllm::cli {

// They differ in how many tokens they generate at most: 256 for one text, 1024 for an answer.
extern const std::span<const Option> kRunSampling;
extern const std::span<const Option> kChatSampling;

// What the user chose, as the engine takes it. Holds what the structure points to.
class ChosenSampling {
 public:
  explicit ChosenSampling(const Arguments& arguments);  // throws Failure
  ChosenSampling(const ChosenSampling&) = delete;
  ChosenSampling& operator=(const ChosenSampling&) = delete;

  // Compiles the grammar or schema for the bundle's tokenizer, where there is one. Throws Failure.
  void prepare(const std::string& bundle);

  mllm_generate_options options{};

 private:
  void read_structure(const Arguments& arguments);

  mllm_sampling_params params_{};
  std::vector<std::string> stop_, bad_words_;
  std::vector<const char*> stop_texts_, bad_word_texts_;
  std::vector<int32_t> stop_tokens_;
  std::vector<mllm_logit_bias> bias_;
  bool has_structure_ = false;
  mllm_grammar_kind kind_ = MLLM_GRAMMAR_GBNF;
  std::string source_;
  Grammar grammar_;
};

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_SAMPLING_OPTIONS_H_
