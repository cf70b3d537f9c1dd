// The token loop: a prompt in, text out, piece by piece.
#ifndef MINDIR_LLM_GENERATE_GENERATOR_H_
#define MINDIR_LLM_GENERATE_GENERATOR_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "generate/bundle.h"
#include "generate/sequence.h"
#include "generate/slots.h"

namespace mllm {

// What one token added. Valid during the call.
struct Piece {
  const std::string& text;
  int32_t token;
  float logprob;
  std::span<const float> logits;
};

struct GenerateOptions : StopAndSampling {
  bool reuse = true;  // what the KV cache holds of the prompt is not computed again
  std::function<bool(const Piece&)> on_piece = {};  // false: stop
};

struct Generation {
  FinishReason finish_reason = FinishReason::None;
  int32_t stop_token = -1;
  int32_t stop_index = -1;  // of options.stop
  bool is_full = false;
  size_t prompt_tokens = 0;
  size_t cached_tokens = 0;
  std::string text = {};
  std::vector<int32_t> tokens = {};
  double prompt_seconds = 0;
  double decode_seconds = 0;
};

// One thread at a time.
class Generator {
 public:
  // cancelled: ends a run within a layer's time, when it becomes true; whoever sets it takes it back. It must
  // outlive the generator.
  Generator(std::shared_ptr<Bundle> bundle, const std::atomic<bool>& cancelled);

  Bundle& bundle() { return *bundle_; }
  // `prompt` as the model wants a text to begin; `add_special` puts the begin token there.
  std::vector<int32_t> encode(std::string_view prompt, bool add_special);
  // Errors leave what the KV cache holds of use.
  Generation run(std::span<const int32_t> prompt, const GenerateOptions& options);

 private:
  std::shared_ptr<Bundle> bundle_;
  const std::atomic<bool>& cancelled_;
  Slots slots_;
};

}  // namespace mllm

#endif  // MINDIR_LLM_GENERATE_GENERATOR_H_
