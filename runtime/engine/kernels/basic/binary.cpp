// Element-wise operators of two operands, and Select, with numpy broadcasting.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/basic/blocks.h"
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
using Wrapping = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;

template <class T, class F>
T wrapping(T a, T b, F&& f) {
  using W = Wrapping<T>;
  return static_cast<T>(f(static_cast<W>(a), static_cast<W>(b)));
}

// What the operators do with two numbers of one of the types of arithmetic. Comparisons give 1 or 0.
constexpr auto kAdd = [](auto a, auto b) { return wrapping(a, b, [](auto x, auto y) { return x + y; }); };
constexpr auto kSub = [](auto a, auto b) { return wrapping(a, b, [](auto x, auto y) { return x - y; }); };
constexpr auto kMul = [](auto a, auto b) { return wrapping(a, b, [](auto x, auto y) { return x * y; }); };
constexpr auto kDiv = [](auto a, auto b) {  // floats only, see infer
  if constexpr (std::is_floating_point_v<decltype(a)>) return a / b;
  return decltype(a){};
};
constexpr auto kFloorDiv = [](auto a, auto b) {
  using T = decltype(a);
  if constexpr (std::is_floating_point_v<T>) {
    return std::floor(a / b);
  } else {
    if (b == 0) return T{0};
    if constexpr (std::is_signed_v<T>) {
      if (b == T{-1}) return static_cast<T>(uint64_t{0} - static_cast<uint64_t>(a));
    }
    const T q = a / b;
    return static_cast<T>(q - static_cast<T>((a % b != 0) && ((a < 0) != (b < 0))));
  }
};
constexpr auto kFloorMod = [](auto a, auto b) {  // the result has the sign of the divisor
  using T = decltype(a);
  if constexpr (std::is_floating_point_v<T>) {
    const T rest = std::fmod(a, b);
    if (rest == 0) return T{0};
    return (rest < 0) != (b < 0) ? rest + b : rest;
  } else {
    if (b == 0) return T{0};
    if constexpr (std::is_signed_v<T>) {
      if (b == T{-1}) return T{0};
    }
    const T rest = a % b;
    return rest != 0 && (rest < 0) != (b < 0) ? static_cast<T>(rest + b) : rest;
  }
};
template <class T>
bool either_is_nan(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) return std::isnan(a) || std::isnan(b);
  return false;
}
constexpr auto kMinimum = [](auto a, auto b) {
  if (either_is_nan(a, b)) return std::numeric_limits<decltype(a)>::quiet_NaN();
  return b < a ? b : a;
};
constexpr auto kMaximum = [](auto a, auto b) {
  if (either_is_nan(a, b)) return std::numeric_limits<decltype(a)>::quiet_NaN();
  return a < b ? b : a;
};
constexpr auto kPow = [](auto a, auto b) {
  using T = decltype(a);
  const double power = std::pow(static_cast<double>(a), static_cast<double>(b));
  // What lies between the largest int64 and the largest uint64 is for the latter alone.
  if (std::is_same_v<T, uint64_t> && power >= 0x1p63 && power < 0x1p64) return static_cast<T>(power);
  return convert<T>(power);
};
constexpr auto kEqual = [](auto a, auto b) { return a == b; };
constexpr auto kNotEqual = [](auto a, auto b) { return a != b; };
constexpr auto kGreater = [](auto a, auto b) { return a > b; };
constexpr auto kGreaterEqual = [](auto a, auto b) { return a >= b; };
constexpr auto kLess = [](auto a, auto b) { return a < b; };
constexpr auto kLessEqual = [](auto a, auto b) { return a <= b; };
constexpr auto kAnd = [](auto a, auto b) { return a != 0 && b != 0; };
constexpr auto kOr = [](auto a, auto b) { return a != 0 || b != 0; };

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

// The operator for two blocks of numbers: y = op(a, b).
template <class C>
using BlockLoop = void (*)(const C* a, const C* b, C* y, int64_t count);

template <const auto& op, class C>
void loop(const C* a, const C* b, C* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = static_cast<C>(op(a[i], b[i]));
}

template <class C>
void run_blocks(const OpArgs& args, const RunContext& context, DType dtype, bool exact_number,
                BlockLoop<C> apply) {
  const Tensor& out = context.out(args.node(), 0);
  const int64_t total = out.size();
  if (total == 0) return;
  C blocks[2][kBlock];
  const Tensor* tensors[2] = {};
  Dims strides[2];
  for (size_t i = 0; i < 2; ++i) {
    if (!is_number(args, i)) {
      tensors[i] = &context.in(args.node(), i);
      strides[i] = broadcast_strides(args.dims(i), out.dims);
    } else {
      const C number = number_at<C>(args, i);
      std::fill_n(blocks[i], kBlock, exact_number ? number : rounded(dtype, number));
      strides[i] = Dims(out.dims.size(), 0);
    }
  }
  // The last axis is the inner loop; the others are walked.
  Dims outer = out.dims;
  int64_t inner = 1;
  int64_t steps[2] = {};
  if (!outer.empty()) {
    inner = outer.back();
    outer.pop_back();
    for (size_t i = 0; i < 2; ++i) {
      steps[i] = strides[i].back();
      strides[i].pop_back();
    }
  }
  Walker<2> walk(outer, strides);
  C results[kBlock];
  for (int64_t start = 0; start < total; start += inner) {
    for (int64_t at = 0; at < inner; at += kBlock) {
      const int64_t count = std::min(kBlock, inner - at);
      for (size_t i = 0; i < 2; ++i) {
        if (tensors[i]) load(*tensors[i], walk.offset(i) + at * steps[i], steps[i], count, blocks[i]);
      }
      apply(blocks[0], blocks[1], results, count);
      store(results, count, out, start + at);
    }
    walk.step();
  }
}

// MindSpore's float16 Mul and Div keep a number in float32; the other operators round it to the tensor's
// type.
bool keeps_number(const OpArgs& args) {
  return args.node().op == "Mul" || args.node().op == "Div";
}

template <const auto& op>
void run_binary(const OpArgs& args, const RunContext& context) {
  const DType dtype = common_dtype(args);
  visit_arithmetic(args, dtype, [&](auto tag) {
    using C = typename decltype(tag)::type;
    run_blocks<C>(args, context, dtype, keeps_number(args), loop<op, C>);
  });
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
  const Tensor& out = context.out(args.node(), 0);
  const int64_t total = out.size();
  const bool widening = widens(args, kDivision);
  visit_arithmetic(args, x.dtype, [&](auto tag) {
    using C = typename decltype(tag)::type;
    const auto factor = widening ? static_cast<float>(args.float_at(1)) : 0.0f;
    const C number = widening ? C{} : rounded(x.dtype, number_at<C>(args, 1));
    for (int64_t i = 0; i < total; i += kBlock) {
      const int64_t count = std::min(kBlock, total - i);
      C block[kBlock];
      load(x, i, 1, count, block);
      if (widening) {
        float results[kBlock];
        for (int64_t k = 0; k < count; ++k) {
          const auto v = static_cast<float>(block[k]);
          results[k] = kDivision ? v / factor : v * factor;
        }
        store(results, count, out, i);
      } else {
        for (int64_t k = 0; k < count; ++k) {
          block[k] = kDivision ? kDiv(block[k], number) : kMul(block[k], number);
        }
        store(block, count, out, i);
      }
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
  uint64_t filling = 0;  // one element
  if (args.is_tensor(2) && args.dtype(2) == args.dtype(0)) {
    std::memcpy(&filling, context.in(args.node(), 2).data, dtype_size(out.dtype));
  } else {
    visit_arithmetic(args, out.dtype, [&](auto tag) {
      const auto number = convert<typename decltype(tag)::type>(args.float_at(2));
      store(&number, 1, Tensor{out.dtype, {1}, &filling, nullptr}, 0);
    });
  }
  visit_size(dtype_size(out.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* x = context.in(args.node(), 0).as<const T>();
    const auto* mask = context.in(args.node(), 1).as<const uint8_t>();
    T fill;
    std::memcpy(&fill, &filling, sizeof(fill));
    Walker<2> walk(out.dims, strides);
    const int64_t total = out.size();
    for (int64_t i = 0; i < total; ++i) {
      out.as<T>()[i] = mask[walk.offset(1)] ? fill : x[walk.offset(0)];
      walk.step();
    }
  });
}

template <const auto& op>
constexpr Operator arithmetic(std::string_view name) {
  return {name, infer_arithmetic, run_binary<op>};
}
template <const auto& op>
constexpr Operator comparison(std::string_view name) {
  return {name, infer_comparison, run_binary<op>};
}

constexpr Operator kTable[] = {
    arithmetic<kAdd>("Add"),
    arithmetic<kSub>("Sub"),
    arithmetic<kMul>("Mul"),
    arithmetic<kFloorDiv>("FloorDiv"),
    arithmetic<kFloorMod>("FloorMod"),
    arithmetic<kFloorMod>("RemainderTensorScalar"),
    arithmetic<kMinimum>("Minimum"),
    arithmetic<kMaximum>("Maximum"),
    arithmetic<kPow>("Pow"),
    {"Div", infer_float_arithmetic, run_binary<kDiv>},
    {"RealDiv", infer_float_arithmetic, run_binary<kDiv>},
    {"Muls", infer_scaled<false>, run_scaled<false>},
    {"Divs", infer_scaled<true>, run_scaled<true>},
    comparison<kEqual>("Equal"),
    comparison<kNotEqual>("NotEqual"),
    comparison<kGreater>("Greater"),
    comparison<kGreaterEqual>("GreaterEqual"),
    comparison<kLess>("Less"),
    comparison<kLessEqual>("LessEqual"),
    comparison<kAnd>("LogicalAnd"),
    comparison<kOr>("LogicalOr"),
    {"Select", infer_select, run_select},
    {"MaskedFill", infer_masked_fill, run_masked_fill},
};

}  // namespace

std::span<const Operator> binary_operators() {
  return kTable;
}

}  // namespace mllm
