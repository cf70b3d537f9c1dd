// Writes by index: ScatterUpdate and ScatterNdUpdate in place, TensorScatterUpdate and TensorScatterElements
// on a copy.
#include <algorithm>
#include <cstring>

#include "kernels/basic/blocks.h"
#include "kernels/basic/groups.h"
#include "kernels/basic/indices.h"

namespace mllm {
namespace {

Dims tail(const Dims& dims, size_t from) {
  return Dims(dims.begin() + static_cast<std::ptrdiff_t>(from), dims.end());
}

// Rows of axis 0: updates has the shape of indices followed by that of one row.
std::vector<TensorType> infer_scatter_update(const OpArgs& args) {
  require_indices(args, 1);
  if (args.dtype(0) != args.dtype(2) || args.dims(0).empty() || args.dtype(0) == DType::QInt4x2)
    args.unsupported("these operand types");
  Dims expected = args.dims(1);
  const Dims row = tail(args.dims(0), 1);
  expected.insert(expected.end(), row.begin(), row.end());
  if (args.dims(2) != expected)
    args.invalid("updates must be " + dims_text(expected) + ", got " + dims_text(args.dims(2)));
  return {args.type(0)};
}

void run_scatter_update(const OpArgs& args, const RunContext& context) {
  const Tensor& target = context.in(args.node(), 0);
  const Tensor& indices = context.in(args.node(), 1);
  const Tensor& updates = context.in(args.node(), 2);
  const size_t width = nbytes(target.dtype, tail(target.dims, 1));
  const int64_t count = indices.size();
  for (int64_t i = 0; i < count; ++i) plain_index(args, index_at(indices, i), target.dims[0]);
  for (int64_t i = 0; i < count && width; ++i) {
    std::memcpy(target.as<uint8_t>() + static_cast<size_t>(index_at(indices, i)) * width,
                updates.as<const uint8_t>() + static_cast<size_t>(i) * width, width);
  }
}

// indices [..., K] names the first K axes of the target; updates is [..., target axes K…].
size_t index_depth(const OpArgs& args) {
  require_indices(args, 1);
  const Dims& x = args.dims(0);
  const Dims& indices = args.dims(1);
  if (args.dtype(0) != args.dtype(2) || args.dtype(0) == DType::QInt4x2)
    args.unsupported("these operand types");
  if (indices.empty() || indices.back() < 0 || indices.back() > static_cast<int64_t>(x.size()))
    args.invalid("indices of shape " + dims_text(indices));
  const auto depth = static_cast<size_t>(indices.back());
  Dims expected(indices.begin(), indices.end() - 1);
  const Dims rest = tail(x, depth);
  expected.insert(expected.end(), rest.begin(), rest.end());
  if (args.dims(2) != expected)
    args.invalid("updates must be " + dims_text(expected) + ", got " + dims_text(args.dims(2)));
  return depth;
}

std::vector<TensorType> infer_scatter_nd(const OpArgs& args) {
  index_depth(args);
  return {args.type(0)};
}

void scatter_nd(const OpArgs& args, const RunContext& context, const Tensor& target) {
  const size_t depth = index_depth(args);
  const Tensor& indices = context.in(args.node(), 1);
  const Tensor& updates = context.in(args.node(), 2);
  const Dims strides = row_major_strides(target.dims);
  const size_t element = dtype_size(target.dtype);
  const size_t width = nbytes(target.dtype, tail(target.dims, depth));
  const int64_t count = depth ? indices.size() / static_cast<int64_t>(depth)
                              : numel(Dims(indices.dims.begin(), indices.dims.end() - 1));
  for (int64_t i = 0; i < count; ++i) {
    int64_t offset = 0;
    for (size_t k = 0; k < depth; ++k) {
      offset +=
          plain_index(args, index_at(indices, i * static_cast<int64_t>(depth) + static_cast<int64_t>(k)),
                      target.dims[k]) *
          strides[k];
    }
    if (width) {
      std::memcpy(target.as<uint8_t>() + static_cast<size_t>(offset) * element,
                  updates.as<const uint8_t>() + static_cast<size_t>(i) * width, width);
    }
  }
}

void run_scatter_nd_update(const OpArgs& args, const RunContext& context) {
  scatter_nd(args, context, context.in(args.node(), 0));
}

void run_tensor_scatter_update(const OpArgs& args, const RunContext& context) {
  const Tensor& y = context.out(args.node(), 0);
  if (y.bytes()) std::memcpy(y.data, context.in(args.node(), 0).data, y.bytes());
  scatter_nd(args, context, y);
}

constexpr int64_t kReduceNone = 0;
constexpr int64_t kReduceAdd = 1;

std::vector<TensorType> infer_scatter_elements(const OpArgs& args) {
  require_indices(args, 1);
  const Dims& x = args.dims(0);
  const Dims& indices = args.dims(1);
  if (args.dtype(0) != args.dtype(2) || args.dtype(0) == DType::QInt4x2)
    args.unsupported("these operand types");
  const size_t axis = checked_axis(args, args.int_at(3), x.size());
  if (indices.size() != x.size() || args.dims(2) != indices)
    args.invalid("indices and updates must have one shape of the input's rank");
  for (size_t d = 0; d < x.size(); ++d) {
    if (d != axis && indices[d] > x[d])
      args.invalid("indices " + dims_text(indices) + " are larger than the input " + dims_text(x));
  }
  const int64_t reduce = args.int_at(4);
  if (reduce != kReduceNone && reduce != kReduceAdd) args.unsupported("reduction " + std::to_string(reduce));
  return {args.type(0)};
}

void run_scatter_elements(const OpArgs& args, const RunContext& context) {
  const Tensor& indices = context.in(args.node(), 1);
  const Tensor& updates = context.in(args.node(), 2);
  const Tensor& y = context.out(args.node(), 0);
  if (y.bytes()) std::memcpy(y.data, context.in(args.node(), 0).data, y.bytes());
  const size_t axis = checked_axis(args, args.int_at(3), y.dims.size());
  const bool add = args.int_at(4) == kReduceAdd;
  Dims strides[1] = {row_major_strides(y.dims)};
  const int64_t axis_stride = strides[0][axis];
  strides[0][axis] = 0;
  const int64_t count = indices.size();
  const size_t width = dtype_size(y.dtype);
  Walker<1> walk(indices.dims, strides);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t target =
        walk.offset(0) + wrapped_index(args, index_at(indices, i), y.dims[axis]) * axis_stride;
    if (add) {
      visit_arithmetic(args, y.dtype, [&](auto tag) {
        using C = typename decltype(tag)::type;
        using Wrapping = std::conditional_t<std::is_integral_v<C>, uint64_t, C>;
        C sum, update;
        load(y, target, 1, 1, &sum);
        load(updates, i, 1, 1, &update);
        sum = static_cast<C>(static_cast<Wrapping>(sum) + static_cast<Wrapping>(update));
        store(&sum, 1, y, target);
      });
    } else {
      std::memcpy(y.as<uint8_t>() + static_cast<size_t>(target) * width,
                  updates.as<const uint8_t>() + static_cast<size_t>(i) * width, width);
    }
    walk.step();
  }
}

constexpr Operator kTable[] = {
    {"ScatterUpdate", infer_scatter_update, run_scatter_update, 0},
    {"ScatterNdUpdate", infer_scatter_nd, run_scatter_nd_update, 0},
    {"TensorScatterUpdate", infer_scatter_nd, run_tensor_scatter_update},
    {"TensorScatterElements", infer_scatter_elements, run_scatter_elements},
};

}  // namespace

std::span<const Operator> scatter_operators() {
  return kTable;
}

}  // namespace mllm
