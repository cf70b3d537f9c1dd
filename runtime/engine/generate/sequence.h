// One prompt while it is being continued: its tokens so far, its text, and whether it is finished.
#ifndef MINDIR_LLM_GENERATE_SEQUENCE_H_
#define MINDIR_LLM_GENERATE_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "generate/bundle.h"
#include "generate/stop_strings.h"
#include "grammar/matcher.h"
#include "session/sampler.h"
#include "text/stream_decoder.h"

namespace mllm {

enum class FinishReason { None, Stop, Length, Cancelled };

// How to choose tokens and when to stop.
struct StopAndSampling {
  SamplingParams sampling = {};
  int32_t max_tokens = 0;  // 0: until the context is full
  int32_t min_tokens = 0;
  bool ignore_eos = false;
  std::vector<std::string> stop = {};
  std::vector<int32_t> stop_tokens = {};
  std::vector<std::string> bad_words = {};
  std::vector<std::pair<int32_t, float>> logit_bias = {};
  std::shared_ptr<grammar::CompiledGrammar> grammar = {};  // the text must follow it; null: it is free
};

class Sequence {
 public:
  // Throws INVALID_ARGUMENT for options that are wrong, CAPACITY for a prompt that leaves no room.
  Sequence(Bundle& bundle, std::span<const int32_t> prompt, const StopAndSampling& options);

  // Choose the next token from logits; returns the text that is now certain.
  std::string advance(std::span<const float> logits);
  void cancel() { finish_reason_ = FinishReason::Cancelled; }

  FinishReason finish_reason() const { return finish_reason_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  const std::string& text() const { return text_; }
  float logprob() const { return logprob_; }          // of the last token
  int32_t stop_token() const { return stop_token_; }  // out of options.stop_tokens, or -1
  std::optional<size_t> stop_string() const { return stops_.found(); }
  bool is_full() const;  // finished for want of room in the context

 private:
  int32_t choose(std::span<const float> logits);
  Sample sample(std::span<const float> logits);
  void ban_bad_endings();
  std::string finish(FinishReason reason, std::string delta);
  bool is_among(const std::vector<int32_t>& ids, int32_t token) const;

  const StopAndSampling options_;
  size_t room_;   // tokens that the context still holds
  size_t limit_;  // tokens to generate at most
  Sampler sampler_;
  StopStrings stops_;
  std::vector<int32_t> eos_;        // end tokens that count
  std::vector<int32_t> never_;      // rows of the logits that no token belongs to
  std::vector<int32_t> too_early_;  // those, and everything that would end it
  std::vector<int32_t> banned_;     // of the token being chosen
  std::vector<std::vector<int32_t>> bad_words_;
  std::vector<float> biased_;
  std::optional<text::StreamDecoder> decoder_;
  std::optional<grammar::Matcher> matcher_;
  std::vector<int32_t> tokens_;
  std::string text_;
  float logprob_ = 0;
  int32_t stop_token_ = -1;
  FinishReason finish_reason_ = FinishReason::None;
};

}  // namespace mllm

#endif  // MINDIR_LLM_GENERATE_SEQUENCE_H_
