// Element-wise operators of one operand, and Cast.
#include <cmath>
#include <cstring>

#include "kernels/basic/blocks.h"
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

// The functions, for one number: float stays float and double stays double. Integers are int64_t or uint64_t.
template <class T>
T sigmoid(T v) {
  // Each branch exponentiates a number <= 0, which cannot overflow.
  if (v >= 0) return T(1) / (T(1) + std::exp(-v));
  const T e = std::exp(v);
  return e / (T(1) + e);
}
constexpr auto kSqrt = [](auto v) { return std::sqrt(v); };
constexpr auto kRsqrt = [](auto v) { return decltype(v)(1) / std::sqrt(v); };
constexpr auto kExp = [](auto v) { return std::exp(v); };
constexpr auto kLog = [](auto v) { return std::log(v); };
constexpr auto kSin = [](auto v) { return std::sin(v); };
constexpr auto kCos = [](auto v) { return std::cos(v); };
constexpr auto kTanh = [](auto v) { return std::tanh(v); };
constexpr auto kErf = [](auto v) { return std::erf(v); };
constexpr auto kReciprocal = [](auto v) { return decltype(v)(1) / v; };
constexpr auto kFloor = [](auto v) { return std::floor(v); };
constexpr auto kCeil = [](auto v) { return std::ceil(v); };
constexpr auto kRound = [](auto v) { return std::nearbyint(v); };
constexpr auto kSigmoid = [](auto v) { return sigmoid(v); };
constexpr auto kSilu = [](auto v) { return v * sigmoid(v); };
constexpr auto kRelu = [](auto v) { return v > 0 || std::isnan(v) ? v : decltype(v)(0); };
// The tanh form, which is what MindSpore's GeLU primitive computes.
constexpr auto kGelu = [](auto v) {
  using T = decltype(v);
  constexpr T kSqrt2OverPi = T(0.79788456080286535588);
  return T(0.5) * v * (T(1) + std::tanh(kSqrt2OverPi * (v + T(0.044715) * v * v * v)));
};
constexpr auto kNeg = [](auto v) {
  if constexpr (std::is_floating_point_v<decltype(v)>) {
    return -v;
  } else {
    return uint64_t{0} - static_cast<uint64_t>(v);
  }
};
constexpr auto kAbs = [](auto v) {
  if constexpr (std::is_floating_point_v<decltype(v)>) {
    return std::abs(v);
  } else {
    return v < 0 ? uint64_t{0} - static_cast<uint64_t>(v) : static_cast<uint64_t>(v);
  }
};
constexpr auto kSquare = [](auto v) {
  if constexpr (std::is_floating_point_v<decltype(v)>) {
    return v * v;
  } else {
    return static_cast<uint64_t>(v) * static_cast<uint64_t>(v);
  }
};

template <const auto& f, class C>
void loop(C* v, int64_t count) {
  for (int64_t i = 0; i < count; ++i) v[i] = static_cast<C>(f(v[i]));
}

template <const auto& f>
void run_float(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  y.dtype == DType::Float64 ? map_blocks<double>(x, y, loop<f>) : map_blocks<float>(x, y, loop<f>);
}

template <const auto& f>
void run_any(const OpArgs& args, const RunContext& context) {
  const Tensor& y = context.out(args.node(), 0);
  visit_arithmetic(args, y.dtype, [&](auto tag) {
    map_blocks<typename decltype(tag)::type>(context.in(args.node(), 0), y, loop<f>);
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

template <class From, class To>
void cast(const Tensor& x, const Tensor& y) {
  From block[kBlock];
  To results[kBlock];
  const int64_t total = y.size();
  for (int64_t i = 0; i < total; i += kBlock) {
    const int64_t count = std::min(kBlock, total - i);
    load(x, i, 1, count, block);
    for (int64_t k = 0; k < count; ++k) results[k] = convert<To>(block[k]);
    store(results, count, y, i);
  }
}

void run_cast(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  if (x.dtype == y.dtype) {
    if (y.bytes()) std::memcpy(y.data, x.data, y.bytes());
    return;
  }
  visit_arithmetic(args, x.dtype, [&](auto from) {
    using From = typename decltype(from)::type;
    if (y.dtype == DType::Bool) return cast<From, From>(x, y);  // 0.5 is true
    visit_arithmetic(args, y.dtype, [&](auto to) { cast<From, typename decltype(to)::type>(x, y); });
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
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  const int64_t total = y.size();
  visit_arithmetic(args, y.dtype, [&](auto tag) {
    using C = typename decltype(tag)::type;
    const auto number = [&](size_t i) {
      if constexpr (std::is_floating_point_v<C>) return static_cast<C>(args.float_at(i));
      return static_cast<C>(args.int_at(i));
    };
    const bool has_low = !args.is_none(1), has_high = !args.is_none(2);
    const C low = has_low ? number(1) : C{}, high = has_high ? number(2) : C{};
    for (int64_t i = 0; i < total; i += kBlock) {
      const int64_t count = std::min(kBlock, total - i);
      C block[kBlock];
      load(x, i, 1, count, block);
      for (int64_t k = 0; k < count; ++k) {
        if (has_low && block[k] < low) block[k] = low;
        if (has_high && block[k] > high) block[k] = high;
      }
      store(block, count, y, i);
    }
  });
}

constexpr Operator kTable[] = {
    {"ClampScalar", infer_clamp, run_clamp},   {"Sqrt", infer_float, run_float<kSqrt>},
    {"Rsqrt", infer_float, run_float<kRsqrt>}, {"Exp", infer_float, run_float<kExp>},
    {"Log", infer_float, run_float<kLog>},     {"Sin", infer_float, run_float<kSin>},
    {"Cos", infer_float, run_float<kCos>},     {"Tanh", infer_float, run_float<kTanh>},
    {"Erf", infer_float, run_float<kErf>},     {"Reciprocal", infer_float, run_float<kReciprocal>},
    {"Floor", infer_float, run_float<kFloor>}, {"Ceil", infer_float, run_float<kCeil>},
    {"Round", infer_float, run_float<kRound>}, {"Sigmoid", infer_float, run_float<kSigmoid>},
    {"SiLU", infer_float, run_float<kSilu>},   {"ReLU", infer_float, run_float<kRelu>},
    {"GeLU", infer_float, run_float<kGelu>},   {"Neg", infer_same, run_any<kNeg>},
    {"Abs", infer_same, run_any<kAbs>},        {"Square", infer_same, run_any<kSquare>},
    {"LogicalNot", infer_not, run_not},        {"Cast", infer_cast, run_cast},
};

}  // namespace

std::span<const Operator> unary_operators() {
  return kTable;
}

}  // namespace mllm
