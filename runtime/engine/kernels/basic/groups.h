// The tables of this folder, by concern; table.cpp joins them.
#ifndef MINDIR_LLM_KERNELS_BASIC_GROUPS_H_
#define MINDIR_LLM_KERNELS_BASIC_GROUPS_H_

#include <span>

#include "graph/operator.h"

namespace mllm {

std::span<const Operator> binary_operators();
std::span<const Operator> unary_operators();
std::span<const Operator> movement_operators();
std::span<const Operator> slice_operators();
std::span<const Operator> gather_operators();
std::span<const Operator> scatter_operators();
std::span<const Operator> reduce_operators();
std::span<const Operator> softmax_operators();
std::span<const Operator> matmul_operators();
std::span<const Operator> sort_operators();
std::span<const Operator> create_operators();

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_BASIC_GROUPS_H_
