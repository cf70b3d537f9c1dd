// StridedSlice, with TensorFlow's mask bits, and TensorCopySlices.
#include <algorithm>

#include "kernels/basic/elements.h"
#include "kernels/basic/groups.h"

namespace mllm {
namespace {

// What a slice selects: for each input axis a start and a step, and the output shape with its strides into
// the input.
struct Slice {
  int64_t offset = 0;  // elements
  Dims dims;           // of the result
  Dims strides;        // of the result's axes in the input
};

struct Masks {
  int64_t begin = 0, end = 0, ellipsis = 0, new_axis = 0, shrink = 0;
};

Slice resolve(const OpArgs& args, const Dims& x, const std::vector<int64_t>& begin,
              const std::vector<int64_t>& end, const std::vector<int64_t>& steps, const Masks& masks) {
  if (begin.size() != end.size() || begin.size() != steps.size())
    args.invalid("begin, end and strides differ in length");
  if (begin.size() > 16) args.unsupported("more than 16 slice entries");
  const auto bit = [](int64_t mask, size_t i) { return (mask >> i & 1) != 0; };
  // Entries that consume an input axis; the ellipsis takes what is left.
  size_t consumed = 0;
  size_t ellipses = 0;
  for (size_t i = 0; i < begin.size(); ++i) {
    if (bit(masks.ellipsis, i)) {
      ++ellipses;
    } else if (!bit(masks.new_axis, i)) {
      ++consumed;
    }
  }
  if (ellipses > 1) args.invalid("more than one ellipsis");
  if (consumed > x.size())
    args.invalid("slices " + std::to_string(consumed) + " axes of a tensor of rank " +
                 std::to_string(x.size()));
  const Dims own = row_major_strides(x);
  Slice out;
  size_t axis = 0;
  const auto keep = [&](size_t count) {
    for (size_t k = 0; k < count; ++k, ++axis) {
      out.dims.push_back(x[axis]);
      out.strides.push_back(own[axis]);
    }
  };
  for (size_t i = 0; i < begin.size(); ++i) {
    if (bit(masks.ellipsis, i)) {
      keep(x.size() - consumed);
    } else if (bit(masks.new_axis, i)) {
      out.dims.push_back(1);
      out.strides.push_back(0);
    } else {
      const int64_t size = x[axis];
      const int64_t step = steps[i];
      if (step == 0 || step == INT64_MIN) args.invalid("a stride of 0");
      const auto wrap = [&](int64_t v) { return v < 0 ? v + size : v; };
      if (bit(masks.shrink, i)) {
        const int64_t index = wrap(begin[i]);
        if (index < 0 || index >= size)
          args.invalid("index " + std::to_string(begin[i]) + " of an axis of " + std::to_string(size));
        out.offset += index * own[axis];
      } else {
        const int64_t low = step > 0 ? 0 : -1;
        const int64_t high = step > 0 ? size : size - 1;
        const int64_t first =
            bit(masks.begin, i) ? (step > 0 ? 0 : size - 1) : std::clamp(wrap(begin[i]), low, high);
        const int64_t last = bit(masks.end, i) ? (step > 0 ? size : -1) : std::clamp(wrap(end[i]), low, high);
        const int64_t span = step > 0 ? last - first : first - last;
        const int64_t magnitude = step > 0 ? step : -step;
        const int64_t count = span <= 0 ? 0 : (span - 1) / magnitude + 1;
        out.dims.push_back(count);
        out.strides.push_back(count > 1 ? own[axis] * step : 0);
        if (count > 0) out.offset += first * own[axis];
      }
      ++axis;
    }
  }
  keep(x.size() - axis);
  return out;
}

Slice strided_slice(const OpArgs& args) {
  const Masks masks{args.int_at(4), args.int_at(5), args.int_at(6), args.int_at(7), args.int_at(8)};
  return resolve(args, args.dims(0), args.ints_at(1), args.ints_at(2), args.ints_at(3), masks);
}

std::vector<TensorType> infer_strided_slice(const OpArgs& args) {
  if (args.dtype(0) == DType::QInt4x2) args.unsupported("operand of type qint4x2");
  return {{args.dtype(0), strided_slice(args).dims}};
}

void run_strided_slice(const OpArgs& args, const RunContext& context) {
  const Slice slice = strided_slice(args);
  const Tensor& y = context.out(args.node(), 0);
  const int64_t total = y.size();
  if (total == 0) return;
  const Dims strides[1] = {slice.strides};
  visit_size(dtype_size(y.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* x = context.in(args.node(), 0).as<const T>() + slice.offset;
    Walker<1> walk(slice.dims, strides);
    for (int64_t i = 0; i < total; ++i) {
      y.as<T>()[i] = x[walk.offset(0)];
      walk.step();
    }
  });
}

Slice copied_slice(const OpArgs& args) {
  return resolve(args, args.dims(0), args.ints_at(2), args.ints_at(3), args.ints_at(4), {});
}

std::vector<TensorType> infer_copy_slices(const OpArgs& args) {
  if (args.dtype(0) != args.dtype(1) || args.dtype(0) == DType::QInt4x2)
    args.unsupported("operands of different types");
  const Dims& target = copied_slice(args).dims;
  if (broadcast_dims(args, args.dims(1), target) != target) {
    args.invalid("cannot write " + dims_text(args.dims(1)) + " into a slice of " + dims_text(target));
  }
  return {args.type(0)};
}

void run_copy_slices(const OpArgs& args, const RunContext& context) {
  const Slice slice = copied_slice(args);
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  Dims from = args.dims(1);
  while (from.size() > slice.dims.size()) from.erase(from.begin());  // leading ones
  const Dims strides[2] = {slice.strides, broadcast_strides(from, slice.dims)};
  visit_size(dtype_size(y.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    std::copy_n(x.as<const T>(), x.size(), y.as<T>());
    const T* value = context.in(args.node(), 1).as<const T>();
    const int64_t total = numel(slice.dims);
    Walker<2> walk(slice.dims, strides);
    for (int64_t i = 0; i < total; ++i) {
      y.as<T>()[slice.offset + walk.offset(0)] = value[walk.offset(1)];
      walk.step();
    }
  });
}

constexpr Operator kTable[] = {
    {"StridedSlice", infer_strided_slice, run_strided_slice},
    {"TensorCopySlices", infer_copy_slices, run_copy_slices},
};

}  // namespace

std::span<const Operator> slice_operators() {
  return kTable;
}

}  // namespace mllm
