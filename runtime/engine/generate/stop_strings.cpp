#include "generate/stop_strings.h"

#include <algorithm>
#include <utility>

namespace mllm {

std::string StopStrings::push(std::string_view text, bool may_stop) {
  if (found_) return "";
  if (stops_.empty()) return std::string(text);
  const size_t start_of_new = held_.size();
  held_ += text;
  if (may_stop) {
    size_t first = std::string::npos;
    for (size_t i = 0; i < stops_.size(); ++i) {
      // Earlier text was searched already: a match must end in the new piece.
      const size_t reach = stops_[i].size() - 1;
      const size_t at = held_.find(stops_[i], start_of_new > reach ? start_of_new - reach : 0);
      if (at < first) {
        first = at;
        found_ = i;
      }
    }
    if (found_) {
      held_.resize(first);
      return std::exchange(held_, {});
    }
  }
  const size_t keep = possible_start();
  std::string released = held_.substr(0, keep);
  held_.erase(0, keep);
  return released;
}

std::string StopStrings::flush() {
  return std::exchange(held_, {});
}

// Where the longest ending of the held text begins that is the beginning of a stop string. (A character's
// later bytes never begin one, so it is never cut.)
size_t StopStrings::possible_start() const {
  size_t longest = 0;
  for (const std::string& stop : stops_) longest = std::max(longest, stop.size() - 1);
  for (size_t start = held_.size() - std::min(longest, held_.size()); start < held_.size(); ++start) {
    const std::string_view tail = std::string_view(held_).substr(start);
    for (const std::string& stop : stops_) {
      if (tail.size() < stop.size() && stop.starts_with(tail)) return start;
    }
  }
  return held_.size();
}

}  // namespace mllm
