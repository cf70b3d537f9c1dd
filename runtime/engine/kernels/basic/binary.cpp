// Element-wise operators of two operands, and Select, with numpy broadcasting.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/basic/elements.h"
#include "kernels/basic/groups.h"

namespace mllm {

Dims broadcast_dims(const OpArgs& args, const Dims& a, const Dims& b) {
  Dims out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    const int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1;
    const int64_t y = i < b.size() ? b[b.size() - 1 - i] : 1;
    if (x != y && x != 1 && y != 1)
      args.invalid("shapes " + dims_text(a) + " and " + dims_text(b) + " do not broadcast");
    out[out.size() - 1 - i] = x == 1 ? y : x;
  }
  return out;
}

Dims broadcast_strides(const Dims& from, const Dims& to) {
  const Dims own = row_major_strides(from);
  Dims strides(to.size(), 0);
  for (size_t i = 0; i < from.size(); ++i) {
    if (from[from.size() - 1 - i] != 1) strides[to.size() - 1 - i] = own[from.size() - 1 - i];
  }
  return strides;
}

namespace {

// Signed overflow wraps, as it does in every framework; unsigned arithmetic makes that defined.
template <class T>
using Wrapping = std::conditional_t<std::is_integral_v<T> && !std::is_same_v<T, bool>, uint64_t, T>;

template <class T, class F>
T wrapping(T a, T b, F&& f) {
  using W = Wrapping<T>;
  return static_cast<T>(f(static_cast<W>(a), static_cast<W>(b)));
}

struct AddOp {
  template <class T>
  static T apply(T a, T b) {
    return wrapping(a, b, [](auto x, auto y) { return x + y; });
  }
};
struct SubOp {
  template <class T>
  static T apply(T a, T b) {
    return wrapping(a, b, [](auto x, auto y) { return x - y; });
  }
};
struct MulOp {
  template <class T>
  static T apply(T a, T b) {
    return wrapping(a, b, [](auto x, auto y) { return x * y; });
  }
};
struct DivOp {  // floats only, see infer
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) return a / b;
    return T{};
  }
};
struct FloorDivOp {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) {
      return std::floor(a / b);
    } else if constexpr (std::is_same_v<T, bool>) {
      return a;
    } else {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>) {
        if (b == T(-1)) return static_cast<T>(-static_cast<uint64_t>(a));
      }
      const T q = static_cast<T>(a / b);
      return static_cast<T>(q - ((a % b != 0) && ((a < 0) != (b < 0))));
    }
  }
};
struct MinimumOp {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<T>::quiet_NaN();
    }
    return b < a ? b : a;
  }
};
struct MaximumOp {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<T>::quiet_NaN();
    }
    return a < b ? b : a;
  }
};
struct PowOp {
  template <class T>
  static T apply(T a, T b) {
    return static_cast<T>(std::pow(static_cast<double>(a), static_cast<double>(b)));
  }
};
struct EqualOp {
  template <class T>
  static bool apply(T a, T b) {
    return a == b;
  }
};
struct NotEqualOp {
  template <class T>
  static bool apply(T a, T b) {
    return a != b;
  }
};
struct GreaterOp {
  template <class T>
  static bool apply(T a, T b) {
    return a > b;
  }
};
struct GreaterEqualOp {
  template <class T>
  static bool apply(T a, T b) {
    return a >= b;
  }
};
struct LessOp {
  template <class T>
  static bool apply(T a, T b) {
    return a < b;
  }
};
struct LessEqualOp {
  template <class T>
  static bool apply(T a, T b) {
    return a <= b;
  }
};
struct AndOp {
  template <class T>
  static bool apply(T a, T b) {
    return a != T(0) && b != T(0);
  }
};
struct OrOp {
  template <class T>
  static bool apply(T a, T b) {
    return a != T(0) || b != T(0);
  }
};

struct FloorModOp {  // the result has the sign of the divisor
  template <class T>
  static T apply(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) {
      const T rest = std::fmod(a, b);
      if (rest == 0) return 0;
      return (rest < 0) != (b < 0) ? rest + b : rest;
    } else if constexpr (std::is_same_v<T, bool>) {
      return false;
    } else {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>) {
        if (b == T(-1)) return 0;
      }
      const T rest = static_cast<T>(a % b);
      return rest != 0 && (rest < 0) != (b < 0) ? static_cast<T>(rest + b) : rest;
    }
  }
};

// A number beside a tensor (x + 1e-5) comes as a literal or as a constant of rank 0, whose type may be
// another: it is rounded to the tensor's.
bool is_number(const OpArgs& args, size_t i) {
  if (!args.is_tensor(i)) return true;
  const size_t other = 1 - i;
  return args.graph().value(args.node().inputs[i]).kind == Value::Kind::Constant && args.dims(i).empty() &&
         args.is_tensor(other) && args.dtype(i) != args.dtype(other);
}

DType common_dtype(const OpArgs& args) {
  if (is_number(args, 0) && is_number(args, 1)) args.unsupported("two numbers instead of tensors");
  const DType dtype = args.dtype(is_number(args, 0) ? 1 : 0);
  if (!is_number(args, 0) && !is_number(args, 1) && args.dtype(0) != args.dtype(1)) {
    args.unsupported(std::string("operands of types ") + dtype_name(args.dtype(0)) + " and " +
                     dtype_name(args.dtype(1)));
  }
  if (dtype == DType::QInt4x2) args.unsupported("operands of type qint4x2");
  return dtype;
}

Dims operand_dims(const OpArgs& args, size_t i) {
  return is_number(args, i) ? Dims{} : args.dims(i);
}

template <class C>
C number_at(const OpArgs& args, size_t i) {
  if constexpr (std::is_floating_point_v<C>) {
    return static_cast<C>(args.float_at(i));
  } else {
    return static_cast<C>(args.int_at(i));
  }
}

std::vector<TensorType> infer_arithmetic(const OpArgs& args) {
  const DType dtype = common_dtype(args);
  for (size_t i = 0; i < 2; ++i) {
    if (!is_number(args, i)) continue;
    is_float(dtype) ? static_cast<void>(args.float_at(i)) : static_cast<void>(args.int_at(i));
  }
  return {{dtype, broadcast_dims(args, operand_dims(args, 0), operand_dims(args, 1))}};
}

std::vector<TensorType> infer_float_arithmetic(const OpArgs& args) {
  auto types = infer_arithmetic(args);
  if (!is_float(types[0].dtype)) args.unsupported("division of integers");
  return types;
}

std::vector<TensorType> infer_comparison(const OpArgs& args) {
  return {{DType::Bool, infer_arithmetic(args)[0].dims}};
}

// MindSpore's float16 Mul and Div keep a number in float32; the other operators round it to the tensor's
// type.
template <class Op>
constexpr bool keeps_number = std::is_same_v<Op, MulOp> || std::is_same_v<Op, DivOp>;

template <class Op, class In, class Out>
void run_typed(const OpArgs& args, const RunContext& context, bool exact_number) {
  using C = Compute<In>;
  Tensor& out = context.out(args.node(), 0);
  const In* sources[2] = {};
  C numbers[2] = {};
  Dims strides[2];
  for (size_t i = 0; i < 2; ++i) {
    if (!is_number(args, i)) {
      sources[i] = context.in(args.node(), i).as<const In>();
      strides[i] = broadcast_strides(args.dims(i), out.dims);
    } else {
      numbers[i] = number_at<C>(args, i);
      if (!exact_number) numbers[i] = Element<In>::load(Element<In>::store(numbers[i]));
      strides[i] = Dims(out.dims.size(), 0);
    }
  }
  // The last axis is the inner loop; the others are walked.
  const int64_t inner = out.dims.empty() ? 1 : out.dims.back();
  const int64_t total = out.size();
  if (total == 0) return;
  Dims outer = out.dims;
  const int64_t sa = outer.empty() ? 0 : strides[0].back();
  const int64_t sb = outer.empty() ? 0 : strides[1].back();
  if (!outer.empty()) {
    outer.pop_back();
    strides[0].pop_back();
    strides[1].pop_back();
  }
  Walker<2> walk(outer, strides);
  Out* y = out.as<Out>();
  for (int64_t row = 0; row < total / inner; ++row, y += inner) {
    const In* a = sources[0] ? sources[0] + walk.offset(0) : nullptr;
    const In* b = sources[1] ? sources[1] + walk.offset(1) : nullptr;
    for (int64_t i = 0; i < inner; ++i) {
      const C x = a ? Element<In>::load(a[i * sa]) : numbers[0];
      const C z = b ? Element<In>::load(b[i * sb]) : numbers[1];
      y[i] = Element<Out>::store(Op::apply(x, z));
    }
    walk.step();
  }
}

template <class Op>
void run_arithmetic(const OpArgs& args, const RunContext& context) {
  visit_dtype(args, context.out(args.node(), 0).dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    run_typed<Op, T, T>(args, context, keeps_number<Op> && args.node().op != "RealDiv");
  });
}

template <class Op>
void run_comparison(const OpArgs& args, const RunContext& context) {
  visit_dtype(args, common_dtype(args),
              [&](auto tag) { run_typed<Op, typename decltype(tag)::type, Bool>(args, context, false); });
}

// Muls and Divs: a tensor and a number. An integer tensor becomes float32 where the result would not be an
// integer.
bool widens(const OpArgs& args, bool division) {
  if (is_float(args.dtype(0))) return false;
  if (args.is_tensor(1)) return division || is_float(args.dtype(1));
  const auto& number = args.graph().value(args.node().inputs[1]).literal.value;
  return division || std::holds_alternative<double>(number);
}

template <bool kDivision>
std::vector<TensorType> infer_scaled(const OpArgs& args) {
  if (args.dtype(0) == DType::QInt4x2 || args.dtype(0) == DType::Bool) {
    args.unsupported(std::string("operand of type ") + dtype_name(args.dtype(0)));
  }
  const bool widening = widens(args, kDivision);
  widening || is_float(args.dtype(0)) ? static_cast<void>(args.float_at(1))
                                      : static_cast<void>(args.int_at(1));
  return {{widening ? DType::Float32 : args.dtype(0), args.dims(0)}};
}

template <bool kDivision>
void run_scaled(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  Tensor& out = context.out(args.node(), 0);
  const int64_t count = out.size();
  const bool widening = widens(args, kDivision);
  visit_dtype(args, x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using C = Compute<T>;
    if (widening) {
      const auto number = static_cast<float>(args.float_at(1));
      for (int64_t i = 0; i < count; ++i) {
        const auto v = static_cast<float>(Element<T>::load(x.as<const T>()[i]));
        out.as<float>()[i] = kDivision ? v / number : v * number;
      }
      return;
    }
    const C number = Element<T>::load(Element<T>::store(number_at<C>(args, 1)));
    for (int64_t i = 0; i < count; ++i) {
      const C v = Element<T>::load(x.as<const T>()[i]);
      out.as<T>()[i] = Element<T>::store(kDivision ? DivOp::apply(v, number) : MulOp::apply(v, number));
    }
  });
}

std::vector<TensorType> infer_select(const OpArgs& args) {
  if (args.dtype(0) != DType::Bool) args.unsupported("a condition that is not bool");
  if (args.dtype(1) != args.dtype(2)) args.unsupported("branches of different types");
  return {
      {args.dtype(1), broadcast_dims(args, args.dims(0), broadcast_dims(args, args.dims(1), args.dims(2)))}};
}

void run_select(const OpArgs& args, const RunContext& context) {
  Tensor& out = context.out(args.node(), 0);
  const Dims strides[3] = {broadcast_strides(args.dims(0), out.dims),
                           broadcast_strides(args.dims(1), out.dims),
                           broadcast_strides(args.dims(2), out.dims)};
  visit_size(dtype_size(out.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* condition = context.in(args.node(), 0).as<const uint8_t>();
    const T* a = context.in(args.node(), 1).as<const T>();
    const T* b = context.in(args.node(), 2).as<const T>();
    Walker<3> walk(out.dims, strides);
    const int64_t total = out.size();
    for (int64_t i = 0; i < total; ++i) {
      out.as<T>()[i] = condition[walk.offset(0)] ? a[walk.offset(1)] : b[walk.offset(2)];
      walk.step();
    }
  });
}

std::vector<TensorType> infer_masked_fill(const OpArgs& args) {
  if (args.dtype(1) != DType::Bool) args.unsupported("a mask that is not bool");
  if (args.is_tensor(2) && numel(args.dims(2)) != 1) args.unsupported("a fill value that is not one number");
  if (!args.is_tensor(2) || args.dtype(2) != args.dtype(0)) args.float_at(2);
  return {{args.dtype(0), broadcast_dims(args, args.dims(0), args.dims(1))}};
}

void run_masked_fill(const OpArgs& args, const RunContext& context) {
  Tensor& out = context.out(args.node(), 0);
  const Dims strides[2] = {broadcast_strides(args.dims(0), out.dims),
                           broadcast_strides(args.dims(1), out.dims)};
  visit_dtype(args, out.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* x = context.in(args.node(), 0).as<const T>();
    const auto* mask = context.in(args.node(), 1).as<const uint8_t>();
    const bool same_type = args.is_tensor(2) && args.dtype(2) == args.dtype(0);
    const T fill = same_type ? *context.in(args.node(), 2).as<const T>()
                             : Element<T>::store(static_cast<Compute<T>>(args.float_at(2)));
    Walker<2> walk(out.dims, strides);
    const int64_t total = out.size();
    for (int64_t i = 0; i < total; ++i) {
      out.as<T>()[i] = mask[walk.offset(1)] ? fill : x[walk.offset(0)];
      walk.step();
    }
  });
}

template <class Op>
constexpr Operator arithmetic(std::string_view name) {
  return {name, infer_arithmetic, run_arithmetic<Op>};
}
template <class Op>
constexpr Operator comparison(std::string_view name) {
  return {name, infer_comparison, run_comparison<Op>};
}

constexpr Operator kTable[] = {
    arithmetic<AddOp>("Add"),
    arithmetic<SubOp>("Sub"),
    arithmetic<MulOp>("Mul"),
    arithmetic<FloorDivOp>("FloorDiv"),
    arithmetic<FloorModOp>("FloorMod"),
    arithmetic<FloorModOp>("RemainderTensorScalar"),
    arithmetic<MinimumOp>("Minimum"),
    arithmetic<MaximumOp>("Maximum"),
    arithmetic<PowOp>("Pow"),
    {"Div", infer_float_arithmetic, run_arithmetic<DivOp>},
    {"RealDiv", infer_float_arithmetic, run_arithmetic<DivOp>},
    {"Muls", infer_scaled<false>, run_scaled<false>},
    {"Divs", infer_scaled<true>, run_scaled<true>},
    comparison<EqualOp>("Equal"),
    comparison<NotEqualOp>("NotEqual"),
    comparison<GreaterOp>("Greater"),
    comparison<GreaterEqualOp>("GreaterEqual"),
    comparison<LessOp>("Less"),
    comparison<LessEqualOp>("LessEqual"),
    comparison<AndOp>("LogicalAnd"),
    comparison<OrOp>("LogicalOr"),
    {"Select", infer_select, run_select},
    {"MaskedFill", infer_masked_fill, run_masked_fill},
};

}  // namespace

std::span<const Operator> binary_operators() {
  return kTable;
}

}  // namespace mllm
