// Tensors from numbers: ZerosLike, OnesLike, Range.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "kernels/basic/blocks.h"
#include "kernels/basic/groups.h"

namespace mllm {
namespace {

std::vector<TensorType> infer_like(const OpArgs& args) {
  if (args.dtype(0) == DType::QInt4x2) args.unsupported("operand of type qint4x2");
  return {args.type(0)};
}

void run_zeros(const OpArgs& args, const RunContext& context) {
  const Tensor& y = context.out(args.node(), 0);
  if (y.bytes()) std::memset(y.data, 0, y.bytes());
}

void run_ones(const OpArgs& args, const RunContext& context) {
  const Tensor& y = context.out(args.node(), 0);
  visit_arithmetic(args, y.dtype, [&](auto tag) {
    using C = typename decltype(tag)::type;
    map_blocks<C>(y, y, [](C* block, int64_t count) { std::fill_n(block, count, C{1}); });
  });
}

struct RangeOf {
  int64_t start, count, step;
};

RangeOf range_of(const OpArgs& args) {
  const int64_t start = args.int_at(0);
  const int64_t limit = args.int_at(1);
  const int64_t step = args.int_at(2);
  constexpr int64_t kBound = int64_t{1} << 40;  // keeps the arithmetic below far from overflow
  if (step == 0 || std::max({std::abs(start / 2), std::abs(limit / 2), std::abs(step / 2)}) > kBound)
    args.invalid("bad range");
  const int64_t span = step > 0 ? limit - start : start - limit;
  const int64_t magnitude = step > 0 ? step : -step;
  return {start, span <= 0 ? 0 : (span - 1) / magnitude + 1, step};
}

std::vector<TensorType> infer_range(const OpArgs& args) {
  const DType dtype = args.is_tensor(0) ? args.dtype(0) : DType::Int64;
  if (dtype != DType::Int32 && dtype != DType::Int64) args.unsupported("a range that is not of integers");
  return {{dtype, {range_of(args).count}}};
}

void run_range(const OpArgs& args, const RunContext& context) {
  const RangeOf r = range_of(args);
  const Tensor& y = context.out(args.node(), 0);
  for (int64_t i = 0; i < r.count; ++i) {
    const int64_t v = r.start + i * r.step;
    if (y.dtype == DType::Int32) {
      y.as<int32_t>()[i] = static_cast<int32_t>(v);
    } else {
      y.as<int64_t>()[i] = v;
    }
  }
}

constexpr Operator kTable[] = {
    {"ZerosLike", infer_like, run_zeros},
    {"OnesLike", infer_like, run_ones},
    {"Range", infer_range, run_range},
};

}  // namespace

std::span<const Operator> create_operators() {
  return kTable;
}

}  // namespace mllm
