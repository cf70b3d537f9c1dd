// The operator tables of this folder, one function per group.
#ifndef MINDIR_LLM_KERNELS_TABLES_H_
#define MINDIR_LLM_KERNELS_TABLES_H_

#include <span>

#include "graph/operator.h"

namespace mllm {

std::span<const Operator> basic_operators();   // primitives that MindSpore runs on every device
std::span<const Operator> ascend_operators();  // fused primitives of the NPU op set
std::span<const Operator> fused_operators();   // "fused.*": what fusion makes of both

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_TABLES_H_
