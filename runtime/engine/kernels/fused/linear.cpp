#include <algorithm>
#include <array>

#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"
#include "kernels/fused/vector.h"

namespace mllm::fused {
namespace {

// Outputs per piece of work: enough multiplications to hide handing out the piece, few enough that a thread
// that loses its core holds up little.
constexpr int64_t kMostColumns = 64;
constexpr int64_t kGrainMultiplications = 65536;
constexpr int64_t kColumnStep = 4;  // columns that a kernel computes together

void check_per_column(const OpArgs& args, size_t i, int64_t n, const char* what) {
  if (args.is_none(i)) return;
  if (!is_float_weight(args.dtype(i)) || numel(args.dims(i)) != n) {
    args.invalid(std::string(what) + " must be float with " + std::to_string(n) + " elements");
  }
}

std::vector<TensorType> infer(const OpArgs& args) {
  const TensorType& x = activation(args, 0);
  const TensorType& weight = args.type(1);
  const bool is_int8 = weight.dtype == DType::Int8;
  if ((!is_int8 && !is_float_weight(weight.dtype)) || weight.dims.size() != 2 ||
      weight.dims[1] != x.dims[1]) {
    args.invalid("the weight must be [outputs, " + std::to_string(x.dims[1]) + "], found " +
                 dtype_name(weight.dtype) + dims_text(weight.dims));
  }
  const int64_t n = weight.dims[0];
  if (is_int8 == args.is_none(2)) args.invalid("int8 weights, and only they, have a scale");
  check_per_column(args, 2, n, "scale");
  check_per_column(args, 3, n, "bias");
  return {{DType::Float32, {x.dims[0], n}}};
}

// Elements n0 … n0+count-1 as float32, in `buffer` unless they are float32 already; null without a tensor.
const float* as_floats(const Tensor& tensor, int64_t n0, int64_t count,
                       std::array<float, kMostColumns>& buffer) {
  if (tensor.data == nullptr) return nullptr;
  if (tensor.dtype == DType::Float32) return tensor.as<const float>() + n0;
  vector_kernels().from_f16(tensor.as<const uint16_t>() + n0, buffer.data(), count);
  return buffer.data();
}

void run(const OpArgs& args, const RunContext& context) {
  const Node& node = args.node();
  const Tensor& x = context.in(node, 0);
  const Tensor& weight = context.in(node, 1);
  const Tensor scale = args.is_none(2) ? Tensor{} : context.in(node, 2);
  const Tensor bias = args.is_none(3) ? Tensor{} : context.in(node, 3);
  const Tensor& y = context.out(node, 0);
  const int64_t rows = rows_now(args, context);
  if (rows == 0) return;
  const int64_t n = weight.dims[0];
  const int64_t k = weight.dims[1];
  const VectorKernels& kernels = vector_kernels();
  const auto kernel = weight.dtype == DType::Int8      ? kernels.linear_i8
                      : weight.dtype == DType::Float16 ? kernels.linear_f16
                                                       : kernels.linear_f32;
  const int64_t wanted = kGrainMultiplications / (rows * k) / kColumnStep * kColumnStep;
  const int64_t grain = std::clamp(wanted, 4 * kColumnStep, kMostColumns);
  context.pool.parallel_for(n, grain, [&](int64_t first, int64_t last) {
    // A pool without helpers may hand out everything as one piece.
    for (int64_t begin = first; begin < last; begin += kMostColumns) {
      const int64_t count = std::min(kMostColumns, last - begin);
      std::array<float, kMostColumns> scale_buffer, bias_buffer;
      const auto row_bytes = static_cast<int64_t>(dtype_size(weight.dtype)) * k;
      kernel({.x = x.as<const float>(),
              .weight = weight.as<const uint8_t>() + begin * row_bytes,
              .scale = as_floats(scale, begin, count, scale_buffer),
              .bias = as_floats(bias, begin, count, bias_buffer),
              .y = y.as<float>() + begin,
              .rows = rows,
              .n = count,
              .k = k,
              .y_stride = n});
    }
  });
}

}  // namespace

Operator linear_operator() {
  return {"fused.Linear", infer, run};
}

}  // namespace mllm::fused
