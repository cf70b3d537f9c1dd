// KVCacheScatterUpdate: writes new rows into a cache in place.
#include <cstring>

#include "kernels/ascend/groups.h"
#include "kernels/basic/elements.h"
#include "kernels/basic/indices.h"

namespace mllm {
namespace {

// Inputs: cache [B, N, S, D] (axis -2) or [B, N, D, S] (axis -1), start index [B], updates, axis, reduce,
// state.
size_t sequence_axis(const OpArgs& args) {
  const size_t axis = checked_axis(args, args.int_at(3), 4);
  if (axis < 2) args.unsupported("axis " + std::to_string(args.int_at(3)));
  return axis;
}

std::vector<TensorType> infer(const OpArgs& args) {
  const Dims& cache = args.dims(0);
  const Dims& updates = args.dims(2);
  if (cache.size() != 4 || updates.size() != 4) args.unsupported("tensors that are not of rank 4");
  if (args.dtype(0) != args.dtype(2) || args.dtype(0) == DType::QInt4x2)
    args.unsupported("a cache and updates of different types");
  require_indices(args, 1);
  if (args.dims(1) != Dims{cache[0]}) args.unsupported("indices that are not one start per batch item");
  const size_t axis = sequence_axis(args);
  for (size_t d = 0; d < 4; ++d) {
    if (d == axis ? updates[d] > cache[d] : updates[d] != cache[d]) {
      args.invalid("updates " + dims_text(updates) + " do not fit the cache " + dims_text(cache));
    }
  }
  return {args.type(0)};
}

void run(const OpArgs& args, const RunContext& c) {
  const Tensor& cache = c.in(args.node(), 0);
  const Tensor& start = c.in(args.node(), 1);
  const Tensor& updates = c.in(args.node(), 2);
  const size_t axis = sequence_axis(args);
  const int64_t size = cache.dims[axis];
  const int64_t tokens = updates.dims[axis];
  const int64_t lines = cache.dims[1] * (axis == 2 ? 1 : cache.dims[2]);
  const size_t element = dtype_size(cache.dtype) * static_cast<size_t>(axis == 2 ? cache.dims[3] : 1);
  for (int64_t b = 0; b < cache.dims[0]; ++b) {
    const int64_t first = index_at(start, b);
    if (first < 0 || first > size - tokens) index_out_of_range(args, first, 0, size - tokens + 1);
    for (int64_t l = 0; l < lines && element && tokens; ++l) {
      std::memcpy(cache.as<uint8_t>() + static_cast<size_t>((b * lines + l) * size + first) * element,
                  updates.as<const uint8_t>() + static_cast<size_t>((b * lines + l) * tokens) * element,
                  static_cast<size_t>(tokens) * element);
    }
  }
}

constexpr Operator kTable[] = {{"KVCacheScatterUpdate", infer, run, 0}};

}  // namespace

std::span<const Operator> ascend_cache_operators() {
  return kTable;
}

}  // namespace mllm
