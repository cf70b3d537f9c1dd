// Row-wise pieces of the fused operators that several of them are made of.
#ifndef MINDIR_LLM_KERNELS_FUSED_ELEMENTWISE_H_
#define MINDIR_LLM_KERNELS_FUSED_ELEMENTWISE_H_

#include <cstdint>

#include "base/tensor.h"

namespace mllm::fused {

// y = x / sqrt(mean(x^2) + eps) * gamma, gamma [features] float16 or float32 (Zhang and Sennrich, 2019).
void rms_normalize(const float* x, const Tensor& gamma, float eps, float* y);

}  // namespace mllm::fused

#endif  // MINDIR_LLM_KERNELS_FUSED_ELEMENTWISE_H_
