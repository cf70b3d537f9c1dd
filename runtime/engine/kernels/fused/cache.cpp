#include <algorithm>

#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"
#include "kernels/fused/vector.h"

namespace mllm::fused {
namespace {

std::vector<TensorType> infer(const OpArgs& args) {
  const TensorType& cache = args.type(0);
  const TensorType& x = activation(args, 1);
  if (!is_float_weight(cache.dtype) || cache.dims.size() != 4) {
    args.invalid("the cache must be float [slots, heads, positions, size]");
  }
  if (cache.dims[1] * cache.dims[3] != x.dims[1]) {
    args.invalid("rows of " + std::to_string(x.dims[1]) + " features do not fit a cache " +
                 dims_text(cache.dims));
  }
  return {cache};
}

void run(const OpArgs& args, const RunContext& context) {
  const Node& node = args.node();
  const Tensor& cache = context.in(node, 0);
  const Tensor& x = context.in(node, 1);
  const int64_t heads = cache.dims[1];
  const int64_t length = cache.dims[2];
  const int64_t d = cache.dims[3];
  for (const Segment& s : context.segments) {
    if (s.slot < 0 || s.slot >= cache.dims[0] || s.position < 0 || int64_t{s.position} + s.n > length) {
      fail_internal("a cache write outside of the cache");
    }
    for (int64_t i = 0; i < s.n; ++i) {
      for (int64_t h = 0; h < heads; ++h) {
        const float* row = x.as<const float>() + ((s.row0 + i) * heads + h) * d;
        const int64_t to = ((s.slot * heads + h) * length + s.position + i) * d;
        if (cache.dtype == DType::Float16) {
          vector_kernels().to_f16(row, cache.as<uint16_t>() + to, d);
        } else {
          std::copy_n(row, d, cache.as<float>() + to);
        }
      }
    }
  }
}

}  // namespace

Operator cache_write_operator() {
  return {.name = "fused.CacheWrite", .infer = infer, .run = run, .in_place_input = 0};
}

}  // namespace mllm::fused
