// Reductions over axes, ArgMax and CumSum. Sums accumulate in double, so their rounding is that of the result
// type.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/basic/elements.h"
#include "kernels/basic/groups.h"

namespace mllm {
namespace {

// Axes to reduce; none named means all of them.
std::vector<bool> reduced_axes(const OpArgs& args, size_t operand) {
  const size_t rank = args.dims(0).size();
  std::vector<bool> reduced(rank, false);
  const std::vector<int64_t> axes =
      args.count() > operand && !args.is_none(operand) ? args.ints_at(operand) : std::vector<int64_t>{};
  for (const int64_t a : axes) {
    if (rank == 0 && (a == 0 || a == -1)) continue;
    reduced[checked_axis(args, a, rank)] = true;
  }
  if (axes.empty()) reduced.assign(rank, true);
  return reduced;
}

bool keeps_dims(const OpArgs& args) {
  if (args.count() > 2) return args.bool_at(2);
  return args.attribute_int("keep_dims", 0) != 0;
}

Dims reduced_dims(const OpArgs& args, const std::vector<bool>& reduced) {
  Dims dims;
  for (size_t d = 0; d < reduced.size(); ++d) {
    if (!reduced[d]) {
      dims.push_back(args.dims(0)[d]);
    } else if (keeps_dims(args)) {
      dims.push_back(1);
    }
  }
  return dims;
}

std::vector<TensorType> infer_reduce(const OpArgs& args) {
  if (args.dtype(0) == DType::QInt4x2 || args.dtype(0) == DType::Bool)
    args.unsupported(std::string("operand of type ") + dtype_name(args.dtype(0)));
  return {{args.dtype(0), reduced_dims(args, reduced_axes(args, 1))}};
}

// The *Ext forms take a result type as fourth operand; without one, a sum or product of integers is int64.
std::vector<TensorType> infer_reduce_ext(const OpArgs& args) {
  std::vector<TensorType> types = infer_reduce(args);
  if (args.count() > 3 && !args.is_none(3)) {
    types[0].dtype = dtype_of_type_id(args, args.int_at(3));
  } else if (args.node().op != "MeanExt" && !is_float(types[0].dtype)) {
    types[0].dtype = DType::Int64;
  }
  const bool widened = types[0].dtype == DType::Int64 && is_integer(args.dtype(0));
  if (types[0].dtype != args.dtype(0) && !widened)
    args.unsupported(std::string("a result of type ") + dtype_name(types[0].dtype));
  if (args.node().op == "MeanExt" && !is_float(args.dtype(0))) args.unsupported("a mean of integers");
  return types;
}

// Max and Min reduce everything.
std::vector<TensorType> infer_reduce_all(const OpArgs& args) {
  if (args.dtype(0) == DType::QInt4x2 || args.dtype(0) == DType::Bool)
    args.unsupported(std::string("operand of type ") + dtype_name(args.dtype(0)));
  return {{args.dtype(0), {}}};
}

struct Sum {
  template <class A>
  static A start() {
    return A(0);
  }
  template <class A>
  static A add(A a, A v) {
    return a + v;
  }
  template <class A>
  static A finish(A a, int64_t) {
    return a;
  }
};
struct Mean : Sum {
  template <class A>
  static A finish(A a, int64_t n) {
    if constexpr (std::is_floating_point_v<A>) return a / static_cast<A>(n);
    return n ? a / static_cast<A>(n) : 0;
  }
};
struct Prod : Sum {
  template <class A>
  static A start() {
    return A(1);
  }
  template <class A>
  static A add(A a, A v) {
    return a * v;
  }
};
struct Max : Sum {
  template <class A>
  static A start() {
    return std::is_floating_point_v<A> ? -std::numeric_limits<A>::infinity()
                                       : std::numeric_limits<A>::lowest();
  }
  template <class A>
  static A add(A a, A v) {
    if constexpr (std::is_floating_point_v<A>) {
      if (std::isnan(v)) return v;
    }
    return v > a ? v : a;
  }
};
struct Min : Sum {
  template <class A>
  static A start() {
    return std::is_floating_point_v<A> ? std::numeric_limits<A>::infinity() : std::numeric_limits<A>::max();
  }
  template <class A>
  static A add(A a, A v) {
    if constexpr (std::is_floating_point_v<A>) {
      if (std::isnan(v)) return v;
    }
    return v < a ? v : a;
  }
};

template <class T, bool kOrdered>
using Accumulator = std::conditional_t<std::is_floating_point_v<Compute<T>>, double,
                                       std::conditional_t<kOrdered, Compute<T>, uint64_t>>;

template <class R>
void run_reduce(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  const std::vector<bool> reduced = reduced_axes(args, 1);
  const Dims own = row_major_strides(x.dims);
  Dims kept_dims, inner_dims;
  Dims kept[1], inner[1];
  for (size_t d = 0; d < reduced.size(); ++d) {
    (reduced[d] ? inner_dims : kept_dims).push_back(x.dims[d]);
    (reduced[d] ? inner : kept)[0].push_back(own[d]);
  }
  const int64_t outer_count = y.size();
  const int64_t inner_count = numel(inner_dims);
  constexpr bool kOrdered = std::is_same_v<R, Max> || std::is_same_v<R, Min>;
  visit_dtype(args, x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (!std::is_same_v<T, Bool>) {
      using A = Accumulator<T, kOrdered>;
      Walker<1> outer(kept_dims, kept);
      for (int64_t o = 0; o < outer_count; ++o) {
        A sum = R::template start<A>();
        Walker<1> walk(inner_dims, inner);
        for (int64_t i = 0; i < inner_count; ++i) {
          sum = R::add(sum,
                       static_cast<A>(Element<T>::load(x.as<const T>()[outer.offset(0) + walk.offset(0)])));
          walk.step();
        }
        A result = R::finish(sum, inner_count);
        if constexpr (std::is_same_v<R, Mean> && std::is_signed_v<Compute<T>> &&
                      !std::is_floating_point_v<Compute<T>>) {
          result = inner_count ? static_cast<A>(static_cast<int64_t>(sum) / inner_count) : 0;
        }
        if (y.dtype == x.dtype) {
          y.as<T>()[o] = Element<T>::store(static_cast<Compute<T>>(result));
        } else {  // widened
          y.as<int64_t>()[o] = static_cast<int64_t>(result);
        }
        outer.step();
      }
    }
  });
}

// ---- ArgMax: the first of equal maxima ----

size_t argmax_axis(const OpArgs& args) {
  const int64_t axis = args.count() > 1 ? args.int_at(1) : args.attribute_int("axis", -1);
  return checked_axis(args, axis, args.dims(0).size());
}

std::vector<TensorType> infer_argmax(const OpArgs& args) {
  if (args.dtype(0) == DType::QInt4x2) args.unsupported("operand of type qint4x2");
  constexpr int64_t kInt32 = 34;
  constexpr int64_t kInt64 = 35;
  const int64_t type = args.count() > 2 ? args.int_at(2) : args.attribute_int("output_type", kInt32);
  if (type != kInt32 && type != kInt64) args.unsupported("result type id " + std::to_string(type));
  Dims dims = args.dims(0);
  const size_t axis = argmax_axis(args);
  if (dims[axis] == 0) args.invalid("an empty axis");
  dims.erase(dims.begin() + static_cast<std::ptrdiff_t>(axis));
  return {{type == kInt32 ? DType::Int32 : DType::Int64, dims}};
}

void run_argmax(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  const size_t axis = argmax_axis(args);
  const int64_t inner = row_major_strides(x.dims)[axis];
  const int64_t size = x.dims[axis];
  const int64_t count = y.size();
  visit_dtype(args, x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t i = 0; i < count; ++i) {
      const T* line = x.as<const T>() + i / inner * inner * size + i % inner;
      int64_t best = 0;
      for (int64_t k = 1; k < size; ++k) {
        if (Element<T>::load(line[k * inner]) > Element<T>::load(line[best * inner])) best = k;
      }
      if (y.dtype == DType::Int32) {
        y.as<int32_t>()[i] = static_cast<int32_t>(best);
      } else {
        y.as<int64_t>()[i] = best;
      }
    }
  });
}

// ---- CumSum ----

std::vector<TensorType> infer_cumsum(const OpArgs& args) {
  if (!is_float(args.dtype(0)) && args.dtype(0) != DType::Int32 && args.dtype(0) != DType::Int64)
    args.unsupported("this operand type");
  checked_axis(args, args.int_at(1), args.dims(0).size());
  args.bool_at(2);
  args.bool_at(3);
  return {args.type(0)};
}

void run_cumsum(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  const size_t axis = checked_axis(args, args.int_at(1), x.dims.size());
  const int64_t inner = row_major_strides(x.dims)[axis];
  const int64_t size = x.dims[axis];
  const int64_t lines = size ? x.size() / size : 0;
  const bool exclusive = args.bool_at(2);
  const bool reverse = args.bool_at(3);
  visit_dtype(args, x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if constexpr (!std::is_same_v<T, Bool>) {
      using A = Accumulator<T, false>;
      for (int64_t i = 0; i < lines; ++i) {
        const int64_t start = i / inner * inner * size + i % inner;
        A sum = 0;
        for (int64_t step = 0; step < size; ++step) {
          const int64_t at = start + (reverse ? size - 1 - step : step) * inner;
          const A before = sum;
          sum += static_cast<A>(Element<T>::load(x.as<const T>()[at]));
          y.as<T>()[at] = Element<T>::store(static_cast<Compute<T>>(exclusive ? before : sum));
        }
      }
    }
  });
}

constexpr Operator kTable[] = {
    {"ReduceSum", infer_reduce, run_reduce<Sum>},
    {"ReduceMean", infer_reduce, run_reduce<Mean>},
    {"ReduceMax", infer_reduce, run_reduce<Max>},
    {"ReduceMin", infer_reduce, run_reduce<Min>},
    {"ReduceProd", infer_reduce, run_reduce<Prod>},
    {"Max", infer_reduce_all, run_reduce<Max>},
    {"Min", infer_reduce_all, run_reduce<Min>},
    {"SumExt", infer_reduce_ext, run_reduce<Sum>},
    {"ProdExt", infer_reduce_ext, run_reduce<Prod>},
    {"MeanExt", infer_reduce_ext, run_reduce<Mean>},
    {"Argmax", infer_argmax, run_argmax},
    {"CumSum", infer_cumsum, run_cumsum},
};

}  // namespace

std::span<const Operator> reduce_operators() {
  return kTable;
}

}  // namespace mllm
