// Reductions over axes, ArgMax and CumSum. Sums accumulate in double, so their rounding is that of the result
// type.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/basic/blocks.h"
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

// What is accumulated: doubles of floats; integers wrap.
template <class C>
using Accumulator = std::conditional_t<std::is_floating_point_v<C>, double, C>;
template <class A>
using Wrapping = std::conditional_t<std::is_floating_point_v<A>, A, uint64_t>;

struct Sum {
  template <class A>
  static A start() {
    return A(0);
  }
  template <class A>
  static A add(A a, A v) {
    return static_cast<A>(static_cast<Wrapping<A>>(a) + static_cast<Wrapping<A>>(v));
  }
};
struct Mean : Sum {};
struct Prod {
  template <class A>
  static A start() {
    return A(1);
  }
  template <class A>
  static A add(A a, A v) {
    return static_cast<A>(static_cast<Wrapping<A>>(a) * static_cast<Wrapping<A>>(v));
  }
};
struct Max {
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
struct Min {
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

// How one reduction treats one type of arithmetic.
template <class C>
struct Reduction {
  Accumulator<C> start;
  Accumulator<C> (*add)(Accumulator<C> sum, const C* block, int64_t count);
  bool is_mean;
};

template <class R, class C>
Accumulator<C> add_block(Accumulator<C> sum, const C* block, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum = R::add(sum, static_cast<Accumulator<C>>(block[i]));
  return sum;
}

template <class C>
void reduce(const OpArgs& args, const RunContext& context, const Reduction<C>& reduction) {
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
  // The last of the reduced axes is read in blocks.
  int64_t line = 1, step = 1;
  if (!inner_dims.empty()) {
    line = inner_dims.back();
    step = inner[0].back();
    inner_dims.pop_back();
    inner[0].pop_back();
  }
  Walker<1> outer(kept_dims, kept);
  for (int64_t o = 0; o < outer_count; ++o) {
    auto sum = reduction.start;
    Walker<1> walk(inner_dims, inner);
    for (int64_t done = 0; done < inner_count; done += line) {
      for (int64_t at = 0; at < line; at += kBlock) {
        const int64_t count = std::min(kBlock, line - at);
        C block[kBlock];
        load(x, outer.offset(0) + walk.offset(0) + at * step, step, count, block);
        sum = reduction.add(sum, block, count);
      }
      walk.step();
    }
    if (reduction.is_mean) {
      using A = Accumulator<C>;
      // The mean of nothing is NaN where there is one.
      sum = std::is_floating_point_v<A> || inner_count ? sum / static_cast<A>(inner_count) : A{0};
    }
    const C result = static_cast<C>(sum);
    store(&result, 1, y, o);  // in a wider integer where infer says so
    outer.step();
  }
}

template <class R>
void run_reduce(const OpArgs& args, const RunContext& context) {
  visit_arithmetic(args, args.dtype(0), [&](auto tag) {
    using C = typename decltype(tag)::type;
    reduce<C>(args, context, {R::template start<Accumulator<C>>(), add_block<R, C>, std::is_same_v<R, Mean>});
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
  visit_arithmetic(args, x.dtype, [&](auto tag) {
    using C = typename decltype(tag)::type;
    C block[kBlock];
    for (int64_t i = 0; i < count; ++i) {
      const int64_t line = i / inner * inner * size + i % inner;
      int64_t best = 0;
      C top;
      load(x, line, 1, 1, &top);
      for (int64_t at = 0; at < size; at += kBlock) {
        const int64_t part = std::min(kBlock, size - at);
        load(x, line + at * inner, inner, part, block);
        for (int64_t k = 0; k < part; ++k) {
          if (block[k] > top) {
            top = block[k];
            best = at + k;
          }
        }
      }
      store(&best, 1, y, i);
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
  visit_arithmetic(args, x.dtype, [&](auto tag) {
    using C = typename decltype(tag)::type;
    C block[kBlock];
    for (int64_t i = 0; i < lines; ++i) {
      const int64_t start = i / inner * inner * size + i % inner;
      const int64_t first = reverse ? start + (size - 1) * inner : start;
      const int64_t step = reverse ? -inner : inner;
      Accumulator<C> sum = 0;
      for (int64_t at = 0; at < size; at += kBlock) {
        const int64_t part = std::min(kBlock, size - at);
        load(x, first + at * step, step, part, block);
        for (int64_t k = 0; k < part; ++k) {
          const Accumulator<C> before = sum;
          sum = Sum::add(sum, static_cast<Accumulator<C>>(block[k]));
          block[k] = static_cast<C>(exclusive ? before : sum);
        }
        store(block, part, y, first + at * step, step);
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
