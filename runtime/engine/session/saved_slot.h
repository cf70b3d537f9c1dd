// What a slot of a session holds, as bytes that outlive the process: a prompt computed once can be gone on
// with later. Only the bundle that wrote them reads them.
#ifndef MINDIR_LLM_SESSION_SAVED_SLOT_H_
#define MINDIR_LLM_SESSION_SAVED_SLOT_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/tensor.h"

namespace mllm {

// `bundle`: 64 characters that identify the bundle. The first `position` rows of each KV head of the slot.
std::vector<uint8_t> save_slot(const std::string& bundle, std::span<const Tensor> caches, int32_t slot,
                               int32_t position);

// Puts them into the caches and returns the position. Throws FORMAT, before anything changes, for bytes that
// are damaged or come from another bundle.
int32_t restore_slot(const std::string& bundle, std::span<const Tensor> caches, int32_t slot,
                     int32_t max_seq_len, std::span<const uint8_t> saved);

}  // namespace mllm

#endif  // MINDIR_LLM_SESSION_SAVED_SLOT_H_
