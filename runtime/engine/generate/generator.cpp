#include "generate/generator.h"

#include <chrono>
#include <utility>

#include "base/error.h"

namespace mllm {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

Generator::Generator(std::shared_ptr<Bundle> bundle, const std::atomic<bool>& cancelled)
    : bundle_(std::move(bundle)), cancelled_(cancelled), slots_(bundle_->model()) {
  slots_.session().set_cancel_flag(&cancelled_);
}

std::vector<int32_t> Generator::encode(std::string_view prompt, bool add_special) {
  return bundle_->encode(prompt, {.add_special = add_special}, "the prompt is text, which needs");
}

Generation Generator::run(std::span<const int32_t> prompt, const GenerateOptions& options) {
  Sequence sequence(*bundle_, prompt, options);
  Generation out;
  out.prompt_tokens = prompt.size();
  const int32_t slot = slots_.choose(prompt);
  out.cached_tokens = slots_.begin(slot, prompt, options.reuse);
  const Clock::time_point start = Clock::now();
  Clock::time_point first = start, last = start;
  int32_t token = 0;
  std::span<const int32_t> next = prompt.subspan(out.cached_tokens);
  while (sequence.finish_reason() == FinishReason::None) {
    try {
      slots_.feed(slot, next);
    } catch (const Error& error) {
      if (error.status() != MLLM_ERROR_CANCELLED) throw;
      sequence.cancel();
      break;
    }
    last = Clock::now();
    if (sequence.tokens().empty()) first = last;
    const std::span<const float> logits = slots_.logits(slot);
    const std::string text = sequence.advance(logits);
    token = sequence.tokens().back();
    next = {&token, 1};
    const bool goes_on = !options.on_piece || options.on_piece({text, token, sequence.logprob(), logits});
    if (sequence.finish_reason() != FinishReason::None) break;
    if (!goes_on || cancelled_.load(std::memory_order_relaxed)) sequence.cancel();
  }
  out.finish_reason = sequence.finish_reason();
  out.stop_token = sequence.stop_token();
  if (const auto found = sequence.stop_string()) out.stop_index = static_cast<int32_t>(*found);
  out.is_full = sequence.is_full();
  out.text = sequence.text();
  out.tokens = sequence.tokens();
  out.prompt_seconds = seconds_between(start, first);
  out.decode_seconds = seconds_between(first, last);
  return out;
}

}  // namespace mllm
