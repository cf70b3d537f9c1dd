#include "base/error.h"
#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"

namespace mllm::fused {
namespace {

std::vector<TensorType> infer(const OpArgs& args) {
  const TensorType& x = activation(args, 0);
  if (args.type(1) != TensorType{DType::Int32, {x.dims[1]}})
    args.invalid("the order must be int32 with one element per feature");
  return {x};
}

void run(const OpArgs& args, const RunContext& context) {
  const Node& node = args.node();
  const Tensor& x = context.in(node, 0);
  const auto* order = context.in(node, 1).as<const int32_t>();
  const int64_t features = x.dims[1];
  for (int64_t i = 0; i < features; ++i) {
    if (order[i] < 0 || order[i] >= features)
      args.invalid("feature " + std::to_string(order[i]) + " of " + std::to_string(features));
  }
  const auto* from = x.as<const float>();
  auto* to = context.out(node, 0).as<float>();
  const int64_t rows = rows_now(args, context);
  for (int64_t r = 0; r < rows; ++r, from += features, to += features) {
    for (int64_t i = 0; i < features; ++i) to[i] = from[order[i]];
  }
}

}  // namespace

Operator reorder_operator() {
  return {"fused.Reorder", infer, run};
}

}  // namespace mllm::fused
