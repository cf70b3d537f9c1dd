#include "generate/slots.h"

#include <algorithm>

namespace mllm {

Slots::Slots(const Model& model) : session_(model), held_(static_cast<size_t>(model.manifest().batch_size)) {}

size_t Slots::common(int32_t slot, std::span<const int32_t> ids) const {
  const std::vector<int32_t>& held = held_[static_cast<size_t>(slot)];
  const size_t limit = std::min(held.size(), ids.size() - 1);
  return static_cast<size_t>(
      std::mismatch(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(limit), held.begin()).first -
      ids.begin());
}

int32_t Slots::choose(std::span<const int32_t> ids) const {
  int32_t best = 0;
  for (int32_t slot = 1; slot < static_cast<int32_t>(held_.size()); ++slot) {
    const size_t has = common(slot, ids), had = common(best, ids);
    const size_t loses = held_[static_cast<size_t>(slot)].size();
    if (has > had || (has == had && loses < held_[static_cast<size_t>(best)].size())) best = slot;
  }
  return best;
}

size_t Slots::begin(int32_t slot, std::span<const int32_t> ids, bool reuse) {
  const size_t kept = reuse ? common(slot, ids) : 0;
  session_.rewind(slot, static_cast<int32_t>(kept));
  held_[static_cast<size_t>(slot)].resize(kept);
  return kept;
}

void Slots::feed(int32_t slot, std::span<const int32_t> ids) {
  const Feed feed{slot, ids};
  session_.feed({&feed, 1});
  std::vector<int32_t>& held = held_[static_cast<size_t>(slot)];
  held.insert(held.end(), ids.begin(), ids.end());
}

}  // namespace mllm
