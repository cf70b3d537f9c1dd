#include <algorithm>

#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"

namespace mllm::fused {
namespace {

std::vector<TensorType> infer(const OpArgs& args) {
  const TensorType& x = activation(args, 0);
  const int64_t batch = args.attribute_int("batch");
  if (batch < 1 || batch > x.dims[0]) args.invalid("batch must be between 1 and the number of rows");
  return {{DType::Float32, {batch, x.dims[1]}}};
}

void run(const OpArgs& args, const RunContext& context) {
  const Node& node = args.node();
  const Tensor& x = context.in(node, 0);
  const Tensor& y = context.out(node, 0);
  const int64_t features = x.dims[1];
  if (selected_rows(context) > y.dims[0]) fail_internal("more segments than batch slots");
  float* out = y.as<float>();
  for (const Segment& s : context.segments) {
    if (!s.wants_logits) continue;
    std::copy_n(x.as<const float>() + (s.row0 + s.n - 1) * features, features, out);
    out += features;
  }
}

}  // namespace

Operator select_last_operator() {
  return {"fused.SelectLast", infer, run};
}

}  // namespace mllm::fused
