// TopK along the last axis: largest first, the lower index first among equals.
#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/basic/blocks.h"
#include "kernels/basic/groups.h"

namespace mllm {
namespace {

std::vector<TensorType> infer(const OpArgs& args) {
  if (args.dtype(0) == DType::QInt4x2 || args.dims(0).empty()) args.unsupported("this operand");
  const int64_t k = args.int_at(1);
  Dims dims = args.dims(0);
  if (k < 0 || k > dims.back())
    args.invalid("k = " + std::to_string(k) + " of an axis of " + std::to_string(dims.back()));
  dims.back() = k;
  return {{args.dtype(0), dims}, {DType::Int32, dims}};
}

// A number whose order among others is the opposite of the value's, so that the largest comes first: 0 and -0
// are one value, NaN is the last of all.
uint64_t rank_of(double v) {
  if (v != v) return UINT64_MAX;
  const uint64_t bits = std::bit_cast<uint64_t>(v + 0.0);  // +0 of either zero
  return bits >> 63 ? bits : ~bits & INT64_MAX;
}
uint64_t rank_of(float v) {
  return rank_of(static_cast<double>(v));
}
uint64_t rank_of(uint64_t v) {
  return ~v;
}
uint64_t rank_of(int64_t v) {
  return ~(static_cast<uint64_t>(v) ^ uint64_t{1} << 63);
}

void run(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& values = context.out(args.node(), 0);
  const Tensor& indices = context.out(args.node(), 1);
  const int64_t size = x.dims.back();
  const int64_t k = values.dims.back();
  const int64_t lines = size ? x.size() / size : 0;
  const size_t width = dtype_size(x.dtype);
  std::vector<std::pair<uint64_t, int32_t>> order(static_cast<size_t>(size));
  for (int64_t line = 0; line < lines; ++line) {
    visit_arithmetic(args, x.dtype, [&](auto tag) {
      typename decltype(tag)::type block[kBlock];
      for (int64_t at = 0; at < size; at += kBlock) {
        const int64_t count = std::min(kBlock, size - at);
        load(x, line * size + at, 1, count, block);
        for (int64_t i = at; i < at + count; ++i) {
          order[static_cast<size_t>(i)] = {rank_of(block[i - at]), static_cast<int32_t>(i)};
        }
      }
    });
    std::partial_sort(order.begin(), order.begin() + k, order.end());
    for (int64_t i = 0; i < k; ++i) {
      const int32_t index = order[static_cast<size_t>(i)].second;
      std::memcpy(values.as<uint8_t>() + static_cast<size_t>(line * k + i) * width,
                  x.as<const uint8_t>() + static_cast<size_t>(line * size + index) * width, width);
      indices.as<int32_t>()[line * k + i] = index;
    }
  }
}

constexpr Operator kTable[] = {{"TopK", infer, run}};

}  // namespace

std::span<const Operator> sort_operators() {
  return kTable;
}

}  // namespace mllm
