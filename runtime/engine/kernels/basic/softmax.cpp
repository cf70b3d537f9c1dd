// Softmax and LogSoftmax over one axis, shifted by the maximum.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/basic/blocks.h"
#include "kernels/basic/groups.h"

namespace mllm {
namespace {

size_t softmax_axis(const OpArgs& args) {
  const std::vector<int64_t> axes = args.ints_at(1);
  if (axes.size() != 1) args.unsupported("a softmax over several axes");
  return checked_axis(args, axes[0], args.dims(0).size());
}

std::vector<TensorType> infer(const OpArgs& args) {
  if (!is_float(args.dtype(0))) args.unsupported(std::string("operand of type ") + dtype_name(args.dtype(0)));
  softmax_axis(args);
  return {args.type(0)};
}

template <class C>
void softmax(std::vector<C>& line, bool log) {
  const C top = *std::max_element(line.begin(), line.end());
  double sum = 0;
  for (C& v : line) {
    v -= top;
    const C e = std::exp(v);
    sum += static_cast<double>(e);
    if (!log) v = e;
  }
  const C scale = static_cast<C>(log ? std::log(sum) : 1.0 / sum);
  for (C& v : line) v = log ? v - scale : v * scale;
}

void run(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  const size_t axis = softmax_axis(args);
  const bool log = args.node().op == "LogSoftmax";
  const int64_t inner = row_major_strides(x.dims)[axis];
  const int64_t size = x.dims[axis];
  const int64_t lines = size ? x.size() / size : 0;
  const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(size, 1));
  context.pool.parallel_for(lines, grain, [&](int64_t begin, int64_t end) {
    visit_arithmetic(args, x.dtype, [&](auto tag) {
      using C = typename decltype(tag)::type;
      if constexpr (std::is_floating_point_v<C>) {
        std::vector<C> line(static_cast<size_t>(size));
        for (int64_t i = begin; i < end; ++i) {
          const int64_t start = i / inner * inner * size + i % inner;
          load(x, start, inner, size, line.data());
          softmax(line, log);
          store(line.data(), size, y, start, inner);
        }
      }
    });
  });
}

constexpr Operator kTable[] = {{"Softmax", infer, run}, {"LogSoftmax", infer, run}};

}  // namespace

std::span<const Operator> softmax_operators() {
  return kTable;
}

}  // namespace mllm
