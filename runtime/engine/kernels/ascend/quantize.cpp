// QuantV2 (static) and DynamicQuantExt (per token): float to int8, ties to even, saturating.
#include <cmath>

#include "kernels/ascend/groups.h"
#include "kernels/ascend/values.h"

namespace mllm {
namespace {

int8_t saturate(float v) {
  return static_cast<int8_t>(std::fmin(std::fmax(v, -128.0f), 127.0f));
}

// Inputs: x, scale, offset, sqrt_mode, rounding, dtype.
std::vector<TensorType> infer_quant(const OpArgs& args) {
  require_float(args, 0);
  require_float(args, 1);
  if (args.dims(0).empty()) args.unsupported("a scalar");
  for (const size_t i : {size_t{1}, size_t{2}}) {
    const int64_t count = numel(args.dims(i));
    if (count != 1 && count != args.dims(0).back()) {
      args.invalid("operand " + std::to_string(i) + " has " + std::to_string(count) + " values, expected " +
                   std::to_string(args.dims(0).back()));
    }
  }
  if (args.dtype(2) != DType::Int8) require_float(args, 2);
  constexpr int64_t kRound = 0;
  constexpr int64_t kInt8 = 32;
  if (args.int_at(4) != kRound) args.unsupported("a rounding mode other than round");
  if (args.int_at(5) != kInt8) args.unsupported("a result type other than int8");
  return {{DType::Int8, args.dims(0)}};
}

void run_quant(const OpArgs& args, const RunContext& c) {
  const Node& n = args.node();
  const Tensor& x = c.in(n, 0);
  const Tensor& y = c.out(n, 0);
  const std::vector<float> scale = read_floats(c.in(n, 1));
  // The type of the offset tells the two backends apart: with int8 the scale divides, otherwise it
  // multiplies.
  const bool divides = args.dtype(2) == DType::Int8;
  const bool sqrt_mode = args.bool_at(3);
  const int64_t width = x.dims.back();
  const int64_t count = x.size();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t channel = i % width;
    const float s = scale[scale.size() == 1 ? 0 : static_cast<size_t>(channel)];
    const int64_t offset_at = c.in(n, 2).size() == 1 ? 0 : channel;
    const float v = read_float(x, i);
    if (divides) {
      y.as<int8_t>()[i] =
          saturate(std::nearbyint(v / s) + static_cast<float>(c.in(n, 2).as<const int8_t>()[offset_at]));
    } else {
      const float scaled = sqrt_mode ? v * s * s : v * s;
      y.as<int8_t>()[i] = saturate(std::nearbyint(scaled + read_float(c.in(n, 2), offset_at)));
    }
  }
}

// Inputs: x, smooth|None. Outputs: int8 like x, float32 scale per row.
std::vector<TensorType> infer_dynamic(const OpArgs& args) {
  require_float(args, 0);
  if (args.dims(0).empty() || args.dims(0).back() == 0) args.unsupported("an empty row");
  if (args.count() > 1 && !args.is_none(1)) {
    require_float(args, 1);
    if (numel(args.dims(1)) != args.dims(0).back()) args.invalid("smooth scales do not match the last axis");
  }
  Dims rows = args.dims(0);
  rows.pop_back();
  return {{DType::Int8, args.dims(0)}, {DType::Float32, rows}};
}

void run_dynamic(const OpArgs& args, const RunContext& c) {
  const Node& n = args.node();
  const Tensor& x = c.in(n, 0);
  const int64_t width = x.dims.back();
  const int64_t rows = x.size() / width;
  const bool smooth = args.count() > 1 && !args.is_none(1);
  std::vector<float> row(static_cast<size_t>(width));
  for (int64_t r = 0; r < rows; ++r) {
    float top = 0;
    for (int64_t i = 0; i < width; ++i) {
      const float v = read_float(x, r * width + i) * (smooth ? read_float(c.in(n, 1), i) : 1.0f);
      row[static_cast<size_t>(i)] = v;
      top = std::fmax(top, std::abs(v));
    }
    const float scale = top / 127.0f;
    c.out(n, 1).as<float>()[r] = scale;
    for (int64_t i = 0; i < width; ++i) {
      // A row of zeros has scale 0; its quotients 0/0 are defined as 0 here.
      c.out(n, 0).as<int8_t>()[r * width + i] =
          scale > 0 ? saturate(std::nearbyint(row[static_cast<size_t>(i)] / scale)) : int8_t{0};
    }
  }
}

constexpr Operator kTable[] = {{"QuantV2", infer_quant, run_quant},
                               {"DynamicQuantExt", infer_dynamic, run_dynamic}};

}  // namespace

std::span<const Operator> ascend_quantize_operators() {
  return kTable;
}

}  // namespace mllm
