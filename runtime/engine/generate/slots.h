// A session that remembers what its slots hold, so that a prompt which begins alike is not computed again.
#ifndef MINDIR_LLM_GENERATE_SLOTS_H_
#define MINDIR_LLM_GENERATE_SLOTS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "session/session.h"

namespace mllm {

class Slots {
 public:
  explicit Slots(const Model& model);  // which must outlive it

  // The slot that holds most of a prompt; among equals the one that loses least.
  int32_t choose(std::span<const int32_t> ids) const;
  // Make the slot hold a beginning of the prompt only, nothing of it without `reuse`; returns how many tokens
  // that is. At least one is left to compute: its logits are what the continuation starts from.
  size_t begin(int32_t slot, std::span<const int32_t> ids, bool reuse);
  void feed(int32_t slot, std::span<const int32_t> ids);
  std::span<const float> logits(int32_t slot) const { return session_.logits(slot); }

  Session& session() { return session_; }

 private:
  size_t common(int32_t slot, std::span<const int32_t> ids) const;

  Session session_;
  std::vector<std::vector<int32_t>> held_;  // by slot
};

}  // namespace mllm

#endif  // MINDIR_LLM_GENERATE_SLOTS_H_
