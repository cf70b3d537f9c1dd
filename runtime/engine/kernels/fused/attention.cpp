#include <algorithm>

#include "kernels/fused/attention_schedule.h"
#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"
#include "kernels/matmul/matmul.h"

namespace mllm::fused {
namespace {

AttentionShape shape_of(const Dims& q, const Dims& cache) {
  return {q[0], q[1] / cache[3], cache[1], cache[2], cache[3]};
}

Dims channels_of(const Dims& cache) {
  return {cache[1], cache[3]};
}
Dims rows_of(const Dims& cache) {
  return {cache[0], cache[1], cache[2], 1};
}

CacheScales scales_of(const Tensor& scale) {
  const auto* data = scale.as<const float>();
  return scale.dims.size() == 2 ? CacheScales{data, nullptr} : CacheScales{nullptr, data};
}

CacheType cache_type(DType dtype) {
  return dtype == DType::Int8      ? CacheType::Int8
         : dtype == DType::Float16 ? CacheType::Float16
                                   : CacheType::Float32;
}

std::vector<TensorType> infer(const OpArgs& args) {
  const TensorType& q = activation(args, 0);
  const TensorType& cache = args.type(1);
  const bool is_int8 = cache.dtype == DType::Int8;
  if ((!is_float_weight(cache.dtype) && !is_int8) || cache.dims.size() != 4 || !(args.type(2) == cache)) {
    args.invalid("key and value cache must be float or int8 [slots, heads, positions, size] of one type");
  }
  for (const int64_t dim : cache.dims) {
    if (dim < 1) args.invalid("an empty cache");
  }
  if (q.dims[1] % cache.dims[3] != 0 || q.dims[1] / cache.dims[3] % cache.dims[1] != 0) {
    args.invalid(std::to_string(q.dims[1]) + " query features do not fit a cache " + dims_text(cache.dims));
  }
  if (is_int8 != (args.count() == 5)) args.invalid("int8 caches, and only these, have scales");
  for (size_t i = 3; i < args.count(); ++i) {
    const TensorType& scale = args.type(i);
    if (scale.dtype != DType::Float32 ||
        (scale.dims != channels_of(cache.dims) && scale.dims != rows_of(cache.dims))) {
      args.invalid("scales " + dims_text(scale.dims) + " do not fit a cache " + dims_text(cache.dims));
    }
  }
  args.attribute_float("scale");
  return {q};
}

const MatrixKernels* matrix_kernels(const AttentionShape& shape) {
  return shape.rows >= kFewestPromptRows ? matrix_attention() : nullptr;
}

size_t scratch_bytes(const OpArgs& args, int threads) {
  const AttentionShape shape = shape_of(args.dims(0), args.dims(1));
  const MatrixKernels* matrix = matrix_kernels(shape);
  return std::max(attention_scratch_bytes(shape, threads),
                  matrix ? attention_scratch_bytes(*matrix, shape, threads) : 0);
}

void run(const OpArgs& args, const RunContext& context) {
  const Node& node = args.node();
  const Tensor& q = context.in(node, 0);
  const Tensor& keys = context.in(node, 1);
  const Tensor& values = context.in(node, 2);
  AttentionCall call{shape_of(q.dims, keys.dims),
                     q.as<const float>(),
                     keys.data,
                     values.data,
                     cache_type(keys.dtype),
                     static_cast<float>(args.attribute_float("scale")),
                     context.out(node, 0).as<float>()};
  if (args.count() == 5) {
    call.key_scales = scales_of(context.in(node, 3));
    call.value_scales = scales_of(context.in(node, 4));
  }
  for (const Segment& s : context.segments) {
    if (s.slot < 0 || s.slot >= keys.dims[0] || s.position < 0 ||
        int64_t{s.position} + s.n > call.shape.length) {
      fail_internal("attention outside of the cache");
    }
  }
  const MatrixKernels* matrix = context.exact ? nullptr : matrix_kernels(call.shape);
  if (matrix) return attend(*matrix, call, context.segments, context.pool, context.scratch);
  attend(vector_kernels(), call, context.segments, context.pool, context.scratch);
}

}  // namespace

Operator attention_operator() {
  return {"fused.Attention", infer, run, -1, scratch_bytes};
}

}  // namespace mllm::fused
