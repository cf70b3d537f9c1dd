// What a token costs on paper: bytes to read, and multiply-accumulates.
#ifndef MINDIR_LLM_CLI_BENCH_COSTS_H_
#define MINDIR_LLM_CLI_BENCH_COSTS_H_

#include <cstdint>
#include <string>

#include "base/json.h"

namespace mllm::cli {

struct Costs {
  int64_t weight_bytes = 0;      // that a decode step reads, each once, as the bundle stores them
  int64_t kv_bytes_per_row = 0;  // keys and values of one earlier token in all layers
  int64_t body_macs = 0;         // of the layers' linear operators, for one row
  int64_t head_macs = 0;         // of the output head, for one row

  // Bytes read for one token that attends to `rows` tokens, itself included.
  double decode_bytes(double rows) const {
    return static_cast<double>(weight_bytes) + static_cast<double>(kv_bytes_per_row) * rows;
  }
  // For a prompt; only its last row needs the head.
  double prefill_macs(double tokens) const {
    return tokens * static_cast<double>(body_macs) + static_cast<double>(head_macs);
  }
};

// parameters: of the decode graph, {"name", "dims", "nbytes"} each.
Costs costs_of(const Json& manifest, const Json& parameters);

// Stored bytes of the linear operators that a profile calls `name` (one parameter's name, or several joined
// by "+"); -1 where it names no weights.
int64_t linear_bytes(const std::string& name, const Json& parameters);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_BENCH_COSTS_H_
