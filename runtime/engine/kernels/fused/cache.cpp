#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"
#include "kernels/fused/vector.h"

namespace mllm::fused {
namespace {

constexpr float kMost = 127.0f;
// 1.5 * 2^23: added to a small number it leaves that number, rounded to the nearest even integer, in the
// lowest bits.
constexpr float kRounder = 12582912.0f;

// A number between -128 and 127; NaN becomes -128.
int8_t to_int8(float x) {
  x = x > -128.0f ? x : -128.0f;
  x = x < 127.0f ? x : 127.0f;
  return static_cast<int8_t>(std::bit_cast<uint32_t>(x + kRounder) & 0xff);
}

// A 127th of the largest magnitude; NaN if some number is not finite.
float scale_of(const float* x, int64_t size) {
  int32_t most = 0;  // magnitudes order like their bits
  for (int64_t i = 0; i < size; ++i) most = std::max(most, std::bit_cast<int32_t>(x[i]) & 0x7fffffff);
  const auto top = std::bit_cast<float>(most);
  return top < std::numeric_limits<float>::infinity() ? top / kMost : std::numeric_limits<float>::quiet_NaN();
}

void quantize_row(const float* x, int8_t* y, int64_t size) {
  const float scale = scale_of(x, size);
  if (!(scale > 0)) {
    std::fill_n(y, size, int8_t{0});
    return;
  }
  for (int64_t i = 0; i < size; ++i) y[i] = to_int8(x[i] / scale);
}

void quantize_channels(const float* x, const float* scales, int8_t* y, int64_t size) {
  for (int64_t i = 0; i < size; ++i) y[i] = to_int8(x[i] * (1.0f / scales[i]));
}

// Numbers that a thread is woken up for.
constexpr int64_t kNumbersPerThread = 16 * 1024;

// f(row of a head of x, number of its row in the cache, head), for all rows.
template <class F>
void for_each_row(const Tensor& cache, const Tensor& x, const RunContext& context, const F& f) {
  const int64_t heads = cache.dims[1];
  const int64_t length = cache.dims[2];
  const int64_t d = x.dims[1] / heads;
  const int64_t grain = std::max<int64_t>(1, kNumbersPerThread / x.dims[1]);
  for (const Segment& s : context.segments) {
    if (s.slot < 0 || s.slot >= cache.dims[0] || s.position < 0 || int64_t{s.position} + s.n > length) {
      fail_internal("a cache write outside of the cache");
    }
    const auto rows = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t h = 0; h < heads; ++h) {
          f(x.as<const float>() + ((s.row0 + i) * heads + h) * d,
            (s.slot * heads + h) * length + s.position + i, h);
        }
      }
    };
    // A reference fits into std::function without memory from the heap.
    if (s.n <= grain) {
      rows(0, s.n);
    } else {
      context.pool.parallel_for(s.n, grain, std::cref(rows));
    }
  }
}

std::vector<TensorType> infer(const OpArgs& args) {
  const TensorType& cache = args.type(0);
  const TensorType& x = activation(args, 1);
  const bool is_int8 = cache.dtype == DType::Int8;
  if ((!is_float_weight(cache.dtype) && !is_int8) || cache.dims.size() != 4) {
    args.invalid("the cache must be float or int8 [slots, heads, positions, size]");
  }
  if (cache.dims[1] * cache.dims[3] != x.dims[1]) {
    args.invalid("rows of " + std::to_string(x.dims[1]) + " features do not fit a cache " +
                 dims_text(cache.dims));
  }
  const bool has_scale = args.count() > 2 && !args.is_none(2);
  if (has_scale && (!is_int8 || args.type(2) != TensorType{DType::Float32, {cache.dims[1], cache.dims[3]}})) {
    args.invalid("the scale must be float32 [heads, size], of an int8 cache");
  }
  return {cache};
}

void run(const OpArgs& args, const RunContext& context) {
  const Node& node = args.node();
  const Tensor& cache = context.in(node, 0);
  const int64_t d = cache.dims[3];
  const bool has_scale = args.count() > 2 && !args.is_none(2);
  const float* scales = has_scale ? context.in(node, 2).as<const float>() : nullptr;
  for_each_row(cache, context.in(node, 1), context, [&](const float* row, int64_t to, int64_t head) {
    switch (cache.dtype) {
      case DType::Float16:
        vector_kernels().to_f16(row, cache.as<uint16_t>() + to * d, d);
        break;
      case DType::Int8:
        if (scales) {
          quantize_channels(row, scales + head * d, cache.as<int8_t>() + to * d, d);
        } else {
          quantize_row(row, cache.as<int8_t>() + to * d, d);
        }
        break;
      default:
        std::copy_n(row, d, cache.as<float>() + to * d);
        break;
    }
  });
}

std::vector<TensorType> infer_scale(const OpArgs& args) {
  const TensorType& cache = args.type(0);
  const TensorType& x = activation(args, 1);
  if (cache.dtype != DType::Float32 || cache.dims.size() != 4 || cache.dims[3] != 1 || cache.dims[1] < 1) {
    args.invalid("the scales must be float32 [slots, heads, positions, 1]");
  }
  if (x.dims[1] % cache.dims[1] != 0) {
    args.invalid("rows of " + std::to_string(x.dims[1]) + " features do not fit scales " +
                 dims_text(cache.dims));
  }
  return {cache};
}

void run_scale(const OpArgs& args, const RunContext& context) {
  const Tensor& cache = context.in(args.node(), 0);
  const Tensor& x = context.in(args.node(), 1);
  const int64_t d = x.dims[1] / cache.dims[1];
  for_each_row(cache, x, context,
               [&](const float* row, int64_t to, int64_t) { cache.as<float>()[to] = scale_of(row, d); });
}

}  // namespace

Operator cache_write_operator() {
  return {.name = "fused.CacheWrite", .infer = infer, .run = run, .in_place_input = 0};
}

Operator cache_scale_operator() {
  return {.name = "fused.CacheScale", .infer = infer_scale, .run = run_scale, .in_place_input = 0};
}

}  // namespace mllm::fused
