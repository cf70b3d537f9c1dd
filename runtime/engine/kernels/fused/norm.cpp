#include <algorithm>
#include <cmath>

#include "kernels/fused/elementwise.h"
#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"
#include "kernels/fused/vector.h"

namespace mllm::fused {
namespace {

constexpr int64_t kGrainElements = 16384;

std::vector<TensorType> infer(const OpArgs& args) {
  const TensorType& x = activation(args, 0);
  const TensorType& gamma = args.type(1);
  if (!is_float_weight(gamma.dtype) || gamma.dims != Dims{x.dims[1]}) {
    args.invalid("gamma must be float [" + std::to_string(x.dims[1]) + "]");
  }
  if (!(args.attribute_float("eps") >= 0)) args.invalid("eps must not be negative");
  return {x};
}

void run(const OpArgs& args, const RunContext& context) {
  const Node& node = args.node();
  const Tensor& x = context.in(node, 0);
  const Tensor& gamma = context.in(node, 1);
  const Tensor& y = context.out(node, 0);
  const auto eps = static_cast<float>(args.attribute_float("eps"));
  const int64_t features = x.dims[1];
  const int64_t grain = std::max<int64_t>(1, kGrainElements / features);
  context.pool.parallel_for(rows_now(args, context), grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      rms_normalize(x.as<const float>() + r * features, gamma, eps, y.as<float>() + r * features);
    }
  });
}

}  // namespace

void rms_normalize(const float* x, const Tensor& gamma, float eps, float* y) {
  const VectorKernels& kernels = vector_kernels();
  const int64_t features = gamma.dims[0];
  const float mean = kernels.dot(x, x, features) / static_cast<float>(features);
  const float factor = 1.0f / std::sqrt(mean + eps);
  const auto* g = gamma.as<const float>();
  if (gamma.dtype == DType::Float16) {
    kernels.from_f16(gamma.as<const uint16_t>(), y, features);
    g = y;
  }
  kernels.multiply(x, factor, g, y, features);
}

Operator rms_norm_operator() {
  return {"fused.RmsNorm", infer, run};
}

}  // namespace mllm::fused
