#include "cli/statistics.h"

#include <algorithm>

#include "cli/numbers.h"

namespace mllm::cli {
namespace {

std::string rate(double tokens, double seconds) {
  return fixed(seconds > 0 ? tokens / seconds : 0, 1) + " tokens/s";
}

}  // namespace

std::string speed_line(const mllm_generation& g) {
  const int32_t computed = g.prompt_tokens - g.cached_tokens;
  // The first token is the prompt's result.
  const auto decoded = static_cast<int64_t>(std::max<size_t>(g.n_tokens, 1)) - 1;
  return "prompt " + std::to_string(computed) + " tokens" +
         (g.cached_tokens ? " and " + std::to_string(g.cached_tokens) + " from the cache" : "") + ", " +
         rate(computed, g.prompt_seconds) + "; decode " + std::to_string(decoded) + " tokens, " +
         rate(static_cast<double>(decoded), g.decode_seconds);
}

}  // namespace mllm::cli
