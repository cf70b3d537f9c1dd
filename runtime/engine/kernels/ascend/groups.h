// The tables of this folder, by concern; table.cpp joins them. Semantics follow the vendor's documentation
// and tests; arithmetic is float32 with one rounding at the output, integer sums are exact.
#ifndef MINDIR_LLM_KERNELS_ASCEND_GROUPS_H_
#define MINDIR_LLM_KERNELS_ASCEND_GROUPS_H_

#include <span>

#include "graph/operator.h"

namespace mllm {

std::span<const Operator> ascend_norm_operators();
std::span<const Operator> ascend_matmul_operators();
std::span<const Operator> ascend_quantize_operators();
std::span<const Operator> ascend_rotary_operators();
std::span<const Operator> ascend_cache_operators();
std::span<const Operator> ascend_attention_operators();

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_ASCEND_GROUPS_H_
