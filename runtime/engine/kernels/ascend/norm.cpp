// RmsNorm, AddRmsNorm (Zhang and Sennrich, 2019) and Swiglu (Shazeer, 2020).
#include <cmath>

#include "kernels/ascend/groups.h"
#include "kernels/ascend/values.h"

namespace mllm {
namespace {

// gamma covers the last axes of x; rstd keeps x's rank, with ones there, and is float32.
std::vector<TensorType> norm_types(const OpArgs& args, size_t gamma) {
  require_float(args, 0);
  require_float(args, gamma);
  const Dims& x = args.dims(0);
  const Dims& g = args.dims(gamma);
  if (g.size() > x.size() || !std::equal(g.rbegin(), g.rend(), x.rbegin())) {
    args.invalid("gamma " + dims_text(g) + " does not match the last axes of " + dims_text(x));
  }
  if (numel(g) == 0) args.invalid("an empty gamma");
  args.float_at(gamma + 1);
  Dims rstd = x;
  for (size_t i = x.size() - g.size(); i < x.size(); ++i) rstd[i] = 1;
  return {args.type(0), {DType::Float32, rstd}};
}

std::vector<TensorType> infer_rms_norm(const OpArgs& args) {
  return norm_types(args, 1);
}

std::vector<TensorType> infer_add_rms_norm(const OpArgs& args) {
  if (!(args.type(0) == args.type(1))) args.unsupported("summands of different types");
  auto types = norm_types(args, 2);
  types.push_back(args.type(0));
  return types;
}

void normalize(const Tensor& x, const Tensor& gamma, double eps, const Tensor& y, const Tensor& rstd) {
  const std::vector<float> g = read_floats(gamma);
  const auto width = static_cast<int64_t>(g.size());
  const int64_t rows = x.size() / width;
  for (int64_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (int64_t i = 0; i < width; ++i) {
      const double v = read_float(x, r * width + i);
      sum += v * v;
    }
    const auto scale = static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(width) + eps));
    rstd.as<float>()[r] = scale;
    for (int64_t i = 0; i < width; ++i) {
      write_float(y, r * width + i, read_float(x, r * width + i) * scale * g[static_cast<size_t>(i)]);
    }
  }
}

void run_rms_norm(const OpArgs& args, const RunContext& c) {
  const Node& n = args.node();
  normalize(c.in(n, 0), c.in(n, 1), args.float_at(2), c.out(n, 0), c.out(n, 1));
}

void run_add_rms_norm(const OpArgs& args, const RunContext& c) {
  const Node& n = args.node();
  const Tensor& sum = c.out(n, 2);
  const int64_t count = sum.size();
  for (int64_t i = 0; i < count; ++i)
    write_float(sum, i, read_float(c.in(n, 0), i) + read_float(c.in(n, 1), i));
  normalize(sum, c.in(n, 2), args.float_at(3), c.out(n, 0), c.out(n, 1));
}

std::vector<TensorType> infer_swiglu(const OpArgs& args) {
  require_float(args, 0);
  TensorType out = args.type(0);
  const size_t axis = checked_axis(args, args.int_at(1), out.dims.size());
  if (out.dims[axis] % 2 != 0) args.invalid("an axis of odd size " + std::to_string(out.dims[axis]));
  out.dims[axis] /= 2;
  return {out};
}

void run_swiglu(const OpArgs& args, const RunContext& c) {
  const Tensor& x = c.in(args.node(), 0);
  const Tensor& y = c.out(args.node(), 0);
  const size_t axis = checked_axis(args, args.int_at(1), x.dims.size());
  const int64_t half = y.dims[axis] * row_major_strides(x.dims)[axis];
  const int64_t count = y.size();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t gate_at = i / half * half * 2 + i % half;
    const float gate = read_float(x, gate_at);
    write_float(y, i, gate / (1 + std::exp(-gate)) * read_float(x, gate_at + half));
  }
}

constexpr Operator kTable[] = {
    {"RmsNorm", infer_rms_norm, run_rms_norm},
    {"AddRmsNorm", infer_add_rms_norm, run_add_rms_norm},
    {"Swiglu", infer_swiglu, run_swiglu},
};

}  // namespace

std::span<const Operator> ascend_norm_operators() {
  return kTable;
}

}  // namespace mllm
