// Element-wise operators of one operand, and Cast.
#include <cmath>
#include <limits>

#include "kernels/basic/elements.h"
#include "kernels/basic/groups.h"

namespace mllm {

DType dtype_of_type_id(const OpArgs& args, int64_t id) {
  switch (id) {
    case 30:
      return DType::Bool;
    case 32:
      return DType::Int8;
    case 33:
      return DType::Int16;
    case 34:
      return DType::Int32;
    case 35:
      return DType::Int64;
    case 37:
      return DType::UInt8;
    case 38:
      return DType::UInt16;
    case 39:
      return DType::UInt32;
    case 40:
      return DType::UInt64;
    case 42:
      return DType::Float16;
    case 43:
      return DType::Float32;
    case 44:
      return DType::Float64;
    case 45:
      return DType::BFloat16;
    default:
      args.unsupported("type id " + std::to_string(id));
  }
}

namespace {

std::vector<TensorType> infer_same(const OpArgs& args) {
  if (args.dtype(0) == DType::QInt4x2 || args.dtype(0) == DType::Bool) {
    args.unsupported(std::string("operand of type ") + dtype_name(args.dtype(0)));
  }
  return {args.type(0)};
}

std::vector<TensorType> infer_float(const OpArgs& args) {
  if (!is_float(args.dtype(0))) args.unsupported(std::string("operand of type ") + dtype_name(args.dtype(0)));
  return {args.type(0)};
}

template <class F>
void map_float(const OpArgs& args, const RunContext& context, F&& f) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  const int64_t count = y.size();
  visit_float(args, y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t i = 0; i < count; ++i)
      y.as<T>()[i] = Element<T>::store(f(Element<T>::load(x.as<const T>()[i])));
  });
}

// Kernels for the functions of <cmath>; the generic lambda keeps float in float and double in double.
void run_sqrt(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return std::sqrt(v); });
}
void run_rsqrt(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return decltype(v)(1) / std::sqrt(v); });
}
void run_exp(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return std::exp(v); });
}
void run_log(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return std::log(v); });
}
void run_sin(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return std::sin(v); });
}
void run_cos(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return std::cos(v); });
}
void run_tanh(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return std::tanh(v); });
}
void run_erf(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return std::erf(v); });
}
void run_reciprocal(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return decltype(v)(1) / v; });
}
void run_floor(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return std::floor(v); });
}
void run_ceil(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return std::ceil(v); });
}
void run_round(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return std::nearbyint(v); });
}

template <class T>
T sigmoid(T v) {
  // Each branch exponentiates a number <= 0, which cannot overflow.
  if (v >= 0) return T(1) / (T(1) + std::exp(-v));
  const T e = std::exp(v);
  return e / (T(1) + e);
}
void run_sigmoid(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return sigmoid(v); });
}
void run_silu(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return v * sigmoid(v); });
}
void run_relu(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) { return v > 0 || std::isnan(v) ? v : decltype(v)(0); });
}
// The tanh form, which is what MindSpore's GeLU primitive computes.
void run_gelu(const OpArgs& a, const RunContext& c) {
  map_float(a, c, [](auto v) {
    using T = decltype(v);
    constexpr T kSqrt2OverPi = T(0.79788456080286535588);
    return T(0.5) * v * (T(1) + std::tanh(kSqrt2OverPi * (v + T(0.044715) * v * v * v)));
  });
}

template <class F>
void map_any(const OpArgs& args, const RunContext& context, F&& f) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  const int64_t count = y.size();
  visit_dtype(args, y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t i = 0; i < count; ++i) {
      y.as<T>()[i] = Element<T>::store(static_cast<Compute<T>>(f(Element<T>::load(x.as<const T>()[i]))));
    }
  });
}

void run_neg(const OpArgs& a, const RunContext& c) {
  map_any(a, c, [](auto v) {
    if constexpr (std::is_floating_point_v<decltype(v)>) {
      return -v;
    } else {
      return uint64_t{0} - static_cast<uint64_t>(v);
    }
  });
}
void run_abs(const OpArgs& a, const RunContext& c) {
  map_any(a, c, [](auto v) {
    if constexpr (std::is_floating_point_v<decltype(v)>) {
      return std::abs(v);
    } else if constexpr (std::is_same_v<decltype(v), bool>) {
      return v;  // never reached: infer refuses bool
    } else {
      return v < 0 ? uint64_t{0} - static_cast<uint64_t>(v) : static_cast<uint64_t>(v);
    }
  });
}
void run_square(const OpArgs& a, const RunContext& c) {
  map_any(a, c, [](auto v) {
    if constexpr (std::is_floating_point_v<decltype(v)>) {
      return v * v;
    } else {
      return static_cast<uint64_t>(v) * static_cast<uint64_t>(v);
    }
  });
}

std::vector<TensorType> infer_not(const OpArgs& args) {
  if (args.dtype(0) != DType::Bool) args.unsupported("an operand that is not bool");
  return {args.type(0)};
}
void run_not(const OpArgs& args, const RunContext& context) {
  const Tensor& y = context.out(args.node(), 0);
  const int64_t count = y.size();
  for (int64_t i = 0; i < count; ++i)
    y.as<uint8_t>()[i] = context.in(args.node(), 0).as<const uint8_t>()[i] == 0;
}

std::vector<TensorType> infer_cast(const OpArgs& args) {
  if (args.dtype(0) == DType::QInt4x2) args.unsupported("operand of type qint4x2");
  return {{dtype_of_type_id(args, args.int_at(1)), args.dims(0)}};
}

// Float to integer truncates, then wraps, and NaN gives 0, as stock MindSpore does on x86. Going through
// int64 keeps it defined; what lies outside int64 becomes the smallest one, as the hardware conversion gives.
template <class To, class From>
To convert(From v) {
  if constexpr (std::is_same_v<To, bool>) {
    return v != From(0);
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (std::isnan(v)) return 0;
    if (v >= From(9223372036854775808.0) || v < From(-9223372036854775808.0)) {
      return static_cast<To>(std::numeric_limits<int64_t>::min());
    }
    return static_cast<To>(static_cast<int64_t>(v));
  } else {
    return static_cast<To>(v);
  }
}

void run_cast(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  const int64_t count = y.size();
  visit_dtype(args, x.dtype, [&](auto from) {
    using From = typename decltype(from)::type;
    visit_dtype(args, y.dtype, [&](auto to) {
      using To = typename decltype(to)::type;
      for (int64_t i = 0; i < count; ++i) {
        if constexpr (std::is_same_v<From, To>) {
          y.as<To>()[i] = x.as<const From>()[i];
        } else {
          y.as<To>()[i] =
              Element<To>::store(convert<Compute<To>>(Element<From>::load(x.as<const From>()[i])));
        }
      }
    });
  });
}

// ClampScalar(x, low or None, high or None)
std::vector<TensorType> infer_clamp(const OpArgs& args) {
  for (size_t i = 1; i < 3; ++i) {
    if (!args.is_none(i))
      is_float(args.dtype(0)) ? static_cast<void>(args.float_at(i)) : static_cast<void>(args.int_at(i));
  }
  return infer_same(args);
}

void run_clamp(const OpArgs& args, const RunContext& context) {
  map_any(args, context, [&](auto v) {
    using C = decltype(v);
    const auto number = [&](size_t i) {
      if constexpr (std::is_floating_point_v<C>) return static_cast<C>(args.float_at(i));
      return static_cast<C>(args.int_at(i));
    };
    if (!args.is_none(1) && v < number(1)) v = number(1);
    if (!args.is_none(2) && v > number(2)) v = number(2);
    return v;
  });
}

constexpr Operator kTable[] = {
    {"ClampScalar", infer_clamp, run_clamp},
    {"Sqrt", infer_float, run_sqrt},
    {"Rsqrt", infer_float, run_rsqrt},
    {"Exp", infer_float, run_exp},
    {"Log", infer_float, run_log},
    {"Sin", infer_float, run_sin},
    {"Cos", infer_float, run_cos},
    {"Tanh", infer_float, run_tanh},
    {"Erf", infer_float, run_erf},
    {"Reciprocal", infer_float, run_reciprocal},
    {"Floor", infer_float, run_floor},
    {"Ceil", infer_float, run_ceil},
    {"Round", infer_float, run_round},
    {"Sigmoid", infer_float, run_sigmoid},
    {"SiLU", infer_float, run_silu},
    {"ReLU", infer_float, run_relu},
    {"GeLU", infer_float, run_gelu},
    {"Neg", infer_same, run_neg},
    {"Abs", infer_same, run_abs},
    {"Square", infer_same, run_square},
    {"LogicalNot", infer_not, run_not},
    {"Cast", infer_cast, run_cast},
};

}  // namespace

std::span<const Operator> unary_operators() {
  return kTable;
}

}  // namespace mllm
