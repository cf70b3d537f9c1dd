// WeightQuantBatchMatmul: y = x @ ((w + offset) * scale) + bias with int8 or int4 weights.
// QuantBatchMatmul: int8 by int8 with an exact int32 sum, then scaled.
#include <cmath>
#include <cstring>

#include "kernels/ascend/groups.h"
#include "kernels/ascend/values.h"

namespace mllm {
namespace {

// ---- WeightQuantBatchMatmul ----
// Inputs: x, w, scale, offset|None, quant_scale|None, quant_offset|None, bias|None, transpose_x, transpose_w,
// group.

struct WeightShape {
  int64_t k = 0, n = 0;
  bool transposed = false;
  bool packed = false;  // two signed 4-bit values a byte along the last stored axis, low nibble first
  int64_t group = 0;    // values of k that share a scale; 0: all of them
};

WeightShape weight_shape(const OpArgs& args) {
  WeightShape s;
  if (args.dtype(1) != DType::Int8 && args.dtype(1) != DType::QInt4x2)
    args.unsupported(std::string("weights of type ") + dtype_name(args.dtype(1)));
  if (args.dims(1).size() != 2) args.unsupported("a weight that is not a matrix");
  s.packed = args.dtype(1) == DType::QInt4x2;
  s.transposed = args.bool_at(8);
  s.group = args.int_at(9);
  int64_t rows = args.dims(1)[0];
  int64_t columns = args.dims(1)[1] * (s.packed ? 2 : 1);
  if (s.transposed) std::swap(rows, columns);
  s.k = rows;
  s.n = columns;
  if (s.group < 0) args.invalid("a negative group size");
  if (s.group > 0 && s.transposed)
    args.unsupported("groups with a transposed weight: the order of the scales is ambiguous");
  return s;
}

// Index of the scale of weight (k, n) for a scale tensor of `count` values.
int64_t scale_index(const WeightShape& s, int64_t count, int64_t k, int64_t n) {
  if (count == 1) return 0;
  return s.group > 0 ? k / s.group * s.n + n : n;
}

void check_scales(const OpArgs& args, const WeightShape& s, size_t operand) {
  require_float(args, operand);
  const int64_t count = numel(args.dims(operand));
  const int64_t groups = s.group > 0 ? (s.k + s.group - 1) / s.group : 1;
  if (count != 1 && count != groups * s.n) {
    args.invalid("operand " + std::to_string(operand) + " has " + std::to_string(count) +
                 " values, expected " + std::to_string(groups * s.n));
  }
}

std::vector<TensorType> infer_weight_quant(const OpArgs& args) {
  require_float(args, 0);
  const WeightShape s = weight_shape(args);
  if (args.bool_at(7)) args.unsupported("a transposed x");
  for (const size_t i : {size_t{4}, size_t{5}}) {
    if (!args.is_none(i)) args.unsupported("quantized output");
  }
  check_scales(args, s, 2);
  if (!args.is_none(3)) check_scales(args, s, 3);
  if (!args.is_none(6)) {
    require_float(args, 6);
    if (numel(args.dims(6)) != s.n)
      args.invalid("bias has " + std::to_string(numel(args.dims(6))) + " values, expected " +
                   std::to_string(s.n));
  }
  TensorType out = args.type(0);
  if (out.dims.empty() || out.dims.back() != s.k)
    args.invalid("cannot multiply " + dims_text(out.dims) + " by a weight of " + std::to_string(s.k) +
                 " rows");
  out.dims.back() = s.n;
  return {out};
}

int unpack4(const uint8_t* bytes, int64_t index) {
  const int nibble = index % 2 ? bytes[index / 2] >> 4 : bytes[index / 2] & 15;
  return nibble > 7 ? nibble - 16 : nibble;
}

void run_weight_quant(const OpArgs& args, const RunContext& c) {
  const WeightShape s = weight_shape(args);
  const Node& node = args.node();
  const Tensor& x = c.in(node, 0);
  const Tensor& w = c.in(node, 1);
  const Tensor& y = c.out(node, 0);
  const std::vector<float> scale = read_floats(c.in(node, 2));
  const std::vector<float> offset =
      args.is_none(3) ? std::vector<float>(1, 0.0f) : read_floats(c.in(node, 3));
  const std::vector<float> bias =
      args.is_none(6) ? std::vector<float>(static_cast<size_t>(s.n), 0.0f) : read_floats(c.in(node, 6));
  const std::vector<float> rows = read_floats(x);
  const int64_t m = s.k ? x.size() / s.k : 0;
  c.pool.parallel_for(s.n, 16, [&](int64_t begin, int64_t end) {
    std::vector<float> column(static_cast<size_t>(s.k));
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t k = 0; k < s.k; ++k) {
        const int64_t at = s.transposed ? n * s.k + k : k * s.n + n;
        const int value = s.packed ? unpack4(w.as<const uint8_t>(), at) : w.as<const int8_t>()[at];
        const float zero =
            offset[static_cast<size_t>(scale_index(s, static_cast<int64_t>(offset.size()), k, n))];
        column[static_cast<size_t>(k)] =
            (static_cast<float>(value) + zero) *
            scale[static_cast<size_t>(scale_index(s, static_cast<int64_t>(scale.size()), k, n))];
      }
      for (int64_t r = 0; r < m; ++r) {
        const float* a = rows.data() + r * s.k;
        double sum = 0;
        for (int64_t k = 0; k < s.k; ++k) sum += static_cast<double>(a[k]) * column[static_cast<size_t>(k)];
        write_float(y, r * s.n + n, static_cast<float>(sum + bias[static_cast<size_t>(n)]));
      }
    }
  });
}

// ---- QuantBatchMatmul ----
// Inputs: x1, x2, scale, offset|None, bias|None, pertoken|None, transpose_1, transpose_2, dtype.

struct QuantShape {
  int64_t m = 0, n = 0, k = 0;
  bool t1 = false, t2 = false;
};

QuantShape quant_shape(const OpArgs& args) {
  const Dims& a = args.dims(0);
  const Dims& b = args.dims(1);
  if (args.dtype(0) != DType::Int8 || args.dtype(1) != DType::Int8)
    args.unsupported("operands that are not int8");
  if (a.size() < 2 || b.size() != 2) args.unsupported("shapes " + dims_text(a) + " and " + dims_text(b));
  QuantShape s;
  s.t1 = args.bool_at(6);
  s.t2 = args.bool_at(7);
  if (s.t1 && a.size() != 2) args.unsupported("a transposed x1 of rank above 2");
  s.k = s.t1 ? a[0] : a.back();
  s.m = s.t1 ? a[1] : numel(Dims(a.begin(), a.end() - 1));
  s.n = s.t2 ? b[0] : b[1];
  if ((s.t2 ? b[1] : b[0]) != s.k) args.invalid("cannot multiply " + dims_text(a) + " by " + dims_text(b));
  return s;
}

std::vector<TensorType> infer_quant(const OpArgs& args) {
  const QuantShape s = quant_shape(args);
  const DType scale = args.dtype(2);
  if (scale != DType::Float32 && scale != DType::BFloat16 && scale != DType::Int64 && scale != DType::UInt64)
    args.unsupported(std::string("scales of type ") + dtype_name(scale));
  const int64_t scales = numel(args.dims(2));
  if (scales != 1 && scales != s.n)
    args.invalid("scale has " + std::to_string(scales) + " values, expected " + std::to_string(s.n));
  if (!args.is_none(3)) {
    if (args.dtype(3) != DType::Float32) args.unsupported("an offset that is not float32");
    const int64_t offsets = numel(args.dims(3));
    if (offsets != 1 && offsets != s.n) args.invalid("offset has " + std::to_string(offsets) + " values");
  }
  if (!args.is_none(4)) {
    if (args.dtype(4) != DType::Int32 && args.dtype(4) != DType::BFloat16)
      args.unsupported("a bias that is neither int32 nor bfloat16");
    if (numel(args.dims(4)) != s.n)
      args.invalid("bias has " + std::to_string(numel(args.dims(4))) + " values, expected " +
                   std::to_string(s.n));
  }
  if (!args.is_none(5) && (args.dtype(5) != DType::Float32 || numel(args.dims(5)) != s.m))
    args.invalid("pertoken scale must be float32 [" + std::to_string(s.m) + "]");
  constexpr int64_t kBFloat16 = 45;
  constexpr int64_t kInt8 = 32;
  const int64_t type = args.int_at(8);
  // Every other number silently means float16 in MindSpore 2.10.
  const DType dtype = type == kBFloat16 ? DType::BFloat16 : type == kInt8 ? DType::Int8 : DType::Float16;
  Dims dims(args.dims(0).begin(), args.dims(0).end() - 1);
  if (s.t1) dims = {s.m};
  dims.push_back(s.n);
  return {{dtype, dims}};
}

// 64-bit scales carry the bits of a float32 in their low word, of which the hardware keeps 10 mantissa bits.
std::vector<float> read_scales(const Tensor& t) {
  if (t.dtype != DType::Int64 && t.dtype != DType::UInt64) return read_floats(t);
  std::vector<float> out(static_cast<size_t>(t.size()));
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = std::bit_cast<float>(static_cast<uint32_t>(t.as<const uint64_t>()[i]) & 0xffffe000u);
  }
  return out;
}

void run_quant(const OpArgs& args, const RunContext& c) {
  const QuantShape s = quant_shape(args);
  const Node& node = args.node();
  const int8_t* a = c.in(node, 0).as<const int8_t>();
  const int8_t* b = c.in(node, 1).as<const int8_t>();
  const Tensor& y = c.out(node, 0);
  const std::vector<float> scale = read_scales(c.in(node, 2));
  const std::vector<float> offset =
      args.is_none(3) ? std::vector<float>(1, 0.0f) : read_floats(c.in(node, 3));
  for (int64_t i = 0; i < s.m; ++i) {
    for (int64_t j = 0; j < s.n; ++j) {
      uint32_t sum = 0;  // int32 arithmetic that wraps
      for (int64_t k = 0; k < s.k; ++k) {
        sum +=
            static_cast<uint32_t>(a[s.t1 ? k * s.m + i : i * s.k + k] * b[s.t2 ? j * s.k + k : k * s.n + j]);
      }
      float late_bias = 0;
      if (!args.is_none(4)) {
        if (args.dtype(4) == DType::Int32) {
          sum += static_cast<uint32_t>(c.in(node, 4).as<const int32_t>()[j]);
        } else {
          late_bias = read_float(c.in(node, 4), j);
        }
      }
      const auto at = [&](const std::vector<float>& v) {
        return v[v.size() == 1 ? 0 : static_cast<size_t>(j)];
      };
      float v = static_cast<float>(static_cast<int32_t>(sum)) * at(scale) + at(offset);
      if (!args.is_none(5)) v *= c.in(node, 5).as<const float>()[i];
      v += late_bias;
      if (y.dtype == DType::Int8) {
        y.as<int8_t>()[i * s.n + j] =
            static_cast<int8_t>(std::nearbyint(std::fmin(std::fmax(v, -128.0f), 127.0f)));
      } else {
        write_float(y, i * s.n + j, v);
      }
    }
  }
}

constexpr Operator kTable[] = {
    {"WeightQuantBatchMatmul", infer_weight_quant, run_weight_quant},
    {"QuantBatchMatmul", infer_quant, run_quant},
};

}  // namespace

std::span<const Operator> ascend_matmul_operators() {
  return kTable;
}

}  // namespace mllm
