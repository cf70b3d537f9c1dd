// Finds stop strings in a text that arrives in pieces.
#ifndef MINDIR_LLM_GENERATE_STOP_STRINGS_H_
#define MINDIR_LLM_GENERATE_STOP_STRINGS_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mllm {

// Push text, get back what is certain to precede any stop string. Once one is found the text before it has
// been returned, and the rest is dropped. Of several matches the one that starts first counts; at the same
// place, the one that is named first.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // may_stop false: a match that ends within this piece does not count.
  std::string push(std::string_view text, bool may_stop);
  // No more text comes: what was held back is not a stop string after all.
  std::string flush();
  // Which one was found.
  std::optional<size_t> found() const { return found_; }

 private:
  size_t possible_start() const;

  std::vector<std::string> stops_;
  std::string held_;
  std::optional<size_t> found_;
};

}  // namespace mllm

#endif  // MINDIR_LLM_GENERATE_STOP_STRINGS_H_
