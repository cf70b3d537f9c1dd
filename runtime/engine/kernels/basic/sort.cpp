// TopK along the last axis: largest first, the lower index first among equals.
#include <algorithm>
#include <numeric>
#include <vector>

#include "kernels/basic/elements.h"
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

void run(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& values = context.out(args.node(), 0);
  const Tensor& indices = context.out(args.node(), 1);
  const int64_t size = x.dims.back();
  const int64_t k = values.dims.back();
  const int64_t lines = size ? x.size() / size : 0;
  visit_dtype(args, x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    std::vector<int32_t> order(static_cast<size_t>(size));
    for (int64_t line = 0; line < lines; ++line) {
      const T* row = x.as<const T>() + line * size;
      std::iota(order.begin(), order.end(), 0);
      // A stable order by value alone is a strict weak ordering only without NaN; NaN sorts last.
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        const auto va = Element<T>::load(row[a]);
        const auto vb = Element<T>::load(row[b]);
        if (va != va || vb != vb) return va == va && vb != vb;
        return va > vb;
      });
      for (int64_t i = 0; i < k; ++i) {
        values.as<T>()[line * k + i] = row[order[static_cast<size_t>(i)]];
        indices.as<int32_t>()[line * k + i] = order[static_cast<size_t>(i)];
      }
    }
  });
}

constexpr Operator kTable[] = {{"TopK", infer, run}};

}  // namespace

std::span<const Operator> sort_operators() {
  return kTable;
}

}  // namespace mllm
