// Softmax and LogSoftmax over one axis, shifted by the maximum.
#include <algorithm>
#include <cmath>

#include "kernels/basic/elements.h"
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

template <bool kLog>
void run(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  const size_t axis = softmax_axis(args);
  const int64_t inner = row_major_strides(x.dims)[axis];
  const int64_t size = x.dims[axis];
  const int64_t lines = size ? x.size() / size : 0;
  visit_float(args, x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = Compute<T>;
    context.pool.parallel_for(
        lines, std::max<int64_t>(1, 8192 / std::max<int64_t>(size, 1)), [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t start = i / inner * inner * size + i % inner;
            const T* in = x.as<const T>() + start;
            T* out = y.as<T>() + start;
            C top = Element<T>::load(in[0]);
            for (int64_t k = 1; k < size; ++k) top = std::max(top, Element<T>::load(in[k * inner]));
            double sum = 0;
            for (int64_t k = 0; k < size; ++k)
              sum += static_cast<double>(std::exp(Element<T>::load(in[k * inner]) - top));
            const C scale = static_cast<C>(kLog ? std::log(sum) : 1.0 / sum);
            for (int64_t k = 0; k < size; ++k) {
              const C v = Element<T>::load(in[k * inner]) - top;
              out[k * inner] = Element<T>::store(kLog ? v - scale : std::exp(v) * scale);
            }
          }
        });
  });
}

constexpr Operator kTable[] = {{"Softmax", infer, run<false>}, {"LogSoftmax", infer, run<true>}};

}  // namespace

std::span<const Operator> softmax_operators() {
  return kTable;
}

}  // namespace mllm
