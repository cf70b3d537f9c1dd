#include <algorithm>

#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"

namespace mllm::fused {
namespace {

constexpr int64_t kGrainElements = 8192;

std::vector<TensorType> infer(const OpArgs& args) {
  const TensorType& x = activation(args, 0);
  const TensorType& cos = args.type(1);
  if (cos.dtype != DType::Float32 || cos.dims.size() != 2 || !(args.type(2) == cos)) {
    args.invalid("cos and sin must be float32 tables of one shape");
  }
  const int64_t d = cos.dims[1];
  if (d < 2 || d % 2 != 0 || x.dims[1] % d != 0) {
    args.invalid("tables of width " + std::to_string(d) + " do not fit " + std::to_string(x.dims[1]) +
                 " features");
  }
  return {x};
}

// Table row of each activation row, checked.
std::vector<int64_t> positions(const RunContext& context, int64_t table_rows) {
  std::vector<int64_t> out(static_cast<size_t>(context.rows));
  for (const Segment& s : context.segments) {
    if (s.position < 0 || int64_t{s.position} + s.n > table_rows) {
      fail_internal("positions outside of the rotary table");
    }
    for (int32_t i = 0; i < s.n; ++i) out[static_cast<size_t>(s.row0 + i)] = s.position + i;
  }
  return out;
}

void run(const OpArgs& args, const RunContext& context) {
  const Node& node = args.node();
  const Tensor& x = context.in(node, 0);
  const Tensor& y = context.out(node, 0);
  const auto* cos_table = context.in(node, 1).as<const float>();
  const auto* sin_table = context.in(node, 2).as<const float>();
  const int64_t features = x.dims[1];
  const int64_t d = context.in(node, 1).dims[1];
  const int64_t half = d / 2;
  const std::vector<int64_t> position = positions(context, context.in(node, 1).dims[0]);
  const int64_t grain = std::max<int64_t>(1, kGrainElements / features);
  context.pool.parallel_for(context.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* cos = cos_table + position[static_cast<size_t>(r)] * d;
      const float* sin = sin_table + position[static_cast<size_t>(r)] * d;
      for (int64_t h = 0; h < features; h += d) {
        const float* in = x.as<const float>() + r * features + h;
        float* out = y.as<float>() + r * features + h;
        for (int64_t i = 0; i < half; ++i) {
          const float a = in[i];
          const float b = in[i + half];
          out[i] = a * cos[i] - b * sin[i];
          out[i + half] = b * cos[i + half] + a * sin[i + half];
        }
      }
    }
  });
}

}  // namespace

Operator rotary_operator() {
  return {"fused.Rotary", infer, run};
}

}  // namespace mllm::fused
