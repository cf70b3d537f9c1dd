// Operators that move whole elements without looking at them: shapes, transposes, joins and splits.
#include <algorithm>
#include <cstring>

#include "kernels/basic/elements.h"
#include "kernels/basic/groups.h"

namespace mllm {
namespace {

void refuse_packed(const OpArgs& args, size_t i) {
  if (args.dtype(i) == DType::QInt4x2) args.unsupported("operand of type qint4x2");
}

std::vector<TensorType> infer_copy(const OpArgs& args) {
  return {args.type(0)};
}

void run_copy(const OpArgs& args, const RunContext& context) {
  const Tensor& y = context.out(args.node(), 0);
  const Tensor& x = context.in(args.node(), 0);
  if (y.bytes() && x.data != y.data) std::memmove(y.data, x.data, y.bytes());
}

// -1 stands for the dimension that the others leave.
Dims resolve_shape(const OpArgs& args, Dims shape, int64_t count) {
  int64_t known = 1;
  int64_t unknown = -1;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == -1 && unknown < 0) {
      unknown = static_cast<int64_t>(i);
    } else if (shape[i] < 0) {
      args.invalid("bad shape " + dims_text(shape));
    }
  }
  Dims rest = shape;
  if (unknown >= 0) rest[static_cast<size_t>(unknown)] = 1;
  known = numel(rest);
  if (unknown >= 0) {
    if (known == 0 || count % known != 0)
      args.invalid("cannot reshape " + dims_text(args.dims(0)) + " to " + dims_text(shape));
    shape[static_cast<size_t>(unknown)] = count / known;
  } else if (known != count) {
    args.invalid("cannot reshape " + dims_text(args.dims(0)) + " to " + dims_text(shape));
  }
  return shape;
}

std::vector<TensorType> infer_reshape(const OpArgs& args) {
  refuse_packed(args, 0);
  return {{args.dtype(0), resolve_shape(args, args.ints_at(1), numel(args.dims(0)))}};
}

std::vector<TensorType> infer_flatten(const OpArgs& args) {
  refuse_packed(args, 0);
  const Dims& x = args.dims(0);
  if (x.empty()) args.unsupported("flatten of a scalar");
  return {{args.dtype(0), {x[0], numel(Dims(x.begin() + 1, x.end()))}}};
}

std::vector<TensorType> infer_expand_dims(const OpArgs& args) {
  Dims dims = args.dims(0);
  const size_t axis = checked_axis(args, args.int_at(1), dims.size() + 1);
  dims.insert(dims.begin() + static_cast<std::ptrdiff_t>(axis), 1);
  return {{args.dtype(0), dims}};
}

std::vector<TensorType> infer_squeeze(const OpArgs& args) {
  const Dims& dims = args.dims(0);
  std::vector<int64_t> axes = args.count() > 1 && !args.is_none(1) ? args.ints_at(1) : std::vector<int64_t>{};
  std::vector<bool> drop(dims.size(), false);
  for (const int64_t axis : axes) {
    const size_t a = checked_axis(args, axis, dims.size());
    if (dims[a] != 1) args.invalid("cannot squeeze axis " + std::to_string(axis) + " of " + dims_text(dims));
    drop[a] = true;
  }
  if (axes.empty()) {
    for (size_t i = 0; i < dims.size(); ++i) drop[i] = dims[i] == 1;
  }
  Dims out;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (!drop[i]) out.push_back(dims[i]);
  }
  return {{args.dtype(0), out}};
}

// Copy x into y where x is read with the given strides along y's shape.
void strided_copy(const Tensor& x, const Tensor& y, const Dims& strides) {
  visit_size(dtype_size(y.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    const int64_t total = y.size();
    if (total == 0) return;
    const int64_t inner = y.dims.empty() ? 1 : y.dims.back();
    const int64_t step = y.dims.empty() ? 0 : strides.back();
    Dims outer = y.dims;
    Dims outer_strides[1] = {strides};
    if (!outer.empty()) {
      outer.pop_back();
      outer_strides[0].pop_back();
    }
    Walker<1> walk(outer, outer_strides);
    T* out = y.as<T>();
    for (int64_t row = 0; row < total / inner; ++row, out += inner) {
      const T* in = x.as<const T>() + walk.offset(0);
      if (step == 1) {
        std::memcpy(out, in, static_cast<size_t>(inner) * sizeof(T));
      } else {
        for (int64_t i = 0; i < inner; ++i) out[i] = in[i * step];
      }
      walk.step();
    }
  });
}

std::vector<size_t> permutation(const OpArgs& args) {
  const std::vector<int64_t> perm = args.ints_at(1);
  const size_t rank = args.dims(0).size();
  if (perm.size() != rank)
    args.invalid("a permutation of " + std::to_string(perm.size()) + " axes for rank " +
                 std::to_string(rank));
  std::vector<size_t> out;
  std::vector<bool> seen(rank, false);
  for (const int64_t p : perm) {
    out.push_back(checked_axis(args, p, rank));
    if (seen[out.back()]) args.invalid("an axis is named twice in " + dims_text(perm));
    seen[out.back()] = true;
  }
  return out;
}

std::vector<TensorType> infer_transpose(const OpArgs& args) {
  refuse_packed(args, 0);
  Dims dims;
  for (const size_t p : permutation(args)) dims.push_back(args.dims(0)[p]);
  return {{args.dtype(0), dims}};
}

void run_transpose(const OpArgs& args, const RunContext& context) {
  const Dims own = row_major_strides(args.dims(0));
  Dims strides;
  for (const size_t p : permutation(args)) strides.push_back(own[p]);
  strided_copy(context.in(args.node(), 0), context.out(args.node(), 0), strides);
}

std::vector<TensorType> infer_broadcast_to(const OpArgs& args) {
  refuse_packed(args, 0);
  const Dims& from = args.dims(0);
  Dims to = args.ints_at(1);
  if (to.size() < from.size()) args.invalid("cannot broadcast " + dims_text(from) + " to " + dims_text(to));
  for (size_t i = 0; i < to.size(); ++i) {
    const size_t lead = to.size() - from.size();
    if (to[i] == -1 && i >= lead) to[i] = from[i - lead];
    if (to[i] < 0 || (i >= lead && from[i - lead] != 1 && from[i - lead] != to[i])) {
      args.invalid("cannot broadcast " + dims_text(from) + " to " + dims_text(to));
    }
  }
  return {{args.dtype(0), to}};
}

void run_broadcast_to(const OpArgs& args, const RunContext& context) {
  const Tensor& y = context.out(args.node(), 0);
  strided_copy(context.in(args.node(), 0), y, broadcast_strides(args.dims(0), y.dims));
}

std::vector<TensorType> infer_tile(const OpArgs& args) {
  refuse_packed(args, 0);
  Dims dims = args.dims(0);
  std::vector<int64_t> repeats = args.ints_at(1);
  while (repeats.size() < dims.size()) repeats.insert(repeats.begin(), 1);
  while (dims.size() < repeats.size()) dims.insert(dims.begin(), 1);
  if (repeats.size() > 16) args.unsupported("more than 16 dimensions");
  for (size_t i = 0; i < dims.size(); ++i) {
    if (repeats[i] < 0) args.invalid("a negative number of repeats");
    if (dims[i] != 0 && repeats[i] > (int64_t{1} << 44) / dims[i]) args.invalid("the result is too large");
    dims[i] *= repeats[i];
  }
  return {{args.dtype(0), dims}};
}

void run_tile(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& y = context.out(args.node(), 0);
  Dims from = args.dims(0);
  while (from.size() < y.dims.size()) from.insert(from.begin(), 1);
  const Dims x_strides = row_major_strides(from);
  const Dims y_strides = row_major_strides(y.dims);
  const int64_t total = y.size();
  visit_size(dtype_size(y.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    for (int64_t i = 0; i < total; ++i) {
      int64_t rest = i;
      int64_t source = 0;
      for (size_t d = 0; d < from.size(); ++d) {
        source += rest / y_strides[d] % from[d] * x_strides[d];
        rest %= y_strides[d];
      }
      y.as<T>()[i] = x.as<const T>()[source];
    }
  });
}

// ---- joins and splits ----

std::vector<TensorType> infer_concat(const OpArgs& args) {
  const std::vector<ValueId> parts = args.tuple(0);
  if (parts.empty()) args.invalid("an empty tuple");
  const TensorType& first = args.graph().value(parts[0]).type;
  if (first.dtype == DType::QInt4x2) args.unsupported("operand of type qint4x2");
  const size_t axis = checked_axis(args, args.int_at(1), first.dims.size());
  TensorType out = first;
  for (size_t i = 1; i < parts.size(); ++i) {
    const TensorType& t = args.graph().value(parts[i]).type;
    bool same = t.dtype == first.dtype && t.dims.size() == first.dims.size();
    for (size_t d = 0; same && d < t.dims.size(); ++d) same = d == axis || t.dims[d] == first.dims[d];
    if (!same)
      args.invalid("cannot join " + dims_text(t.dims) + " to " + dims_text(first.dims) + " along axis " +
                   std::to_string(axis));
    out.dims[axis] += t.dims[axis];
  }
  return {out};
}

// Copy `part` into columns [start, start + width) of rows of `stride` bytes.
void copy_columns(const uint8_t* from, size_t from_stride, uint8_t* to, size_t to_stride, size_t width,
                  int64_t rows) {
  for (int64_t r = 0; r < rows && width; ++r) {
    std::memcpy(to + static_cast<size_t>(r) * to_stride, from + static_cast<size_t>(r) * from_stride, width);
  }
}

int64_t rows_before(const Dims& dims, size_t axis) {
  return numel(Dims(dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(axis)));
}

size_t bytes_from(DType dtype, const Dims& dims, size_t axis) {
  return nbytes(dtype, Dims(dims.begin() + static_cast<std::ptrdiff_t>(axis), dims.end()));
}

void run_concat(const OpArgs& args, const RunContext& context) {
  const Tensor& y = context.out(args.node(), 0);
  const size_t axis = checked_axis(args, args.int_at(1), y.dims.size());
  const size_t stride = bytes_from(y.dtype, y.dims, axis);
  size_t column = 0;
  for (const ValueId id : args.tuple(0)) {
    const Tensor& part = context.tensors[static_cast<size_t>(id)];
    const size_t width = bytes_from(part.dtype, part.dims, axis);
    copy_columns(part.as<const uint8_t>(), width, y.as<uint8_t>() + column, stride, width,
                 rows_before(y.dims, axis));
    column += width;
  }
}

size_t stack_axis(const OpArgs& args, size_t rank) {
  return checked_axis(args, args.attribute_int("axis", 0), rank + 1);
}

std::vector<TensorType> infer_stack(const OpArgs& args) {
  const std::vector<ValueId> parts = args.tuple(0);
  if (parts.empty()) args.invalid("an empty tuple");
  const TensorType& first = args.graph().value(parts[0]).type;
  if (first.dtype == DType::QInt4x2) args.unsupported("operand of type qint4x2");
  for (const ValueId id : parts) {
    if (!(args.graph().value(id).type == first)) args.invalid("the tensors to stack differ");
  }
  TensorType out = first;
  const size_t axis = stack_axis(args, first.dims.size());
  out.dims.insert(out.dims.begin() + static_cast<std::ptrdiff_t>(axis), static_cast<int64_t>(parts.size()));
  return {out};
}

void run_stack(const OpArgs& args, const RunContext& context) {
  const Tensor& y = context.out(args.node(), 0);
  const size_t axis = stack_axis(args, y.dims.size() - 1);
  const size_t width = bytes_from(y.dtype, y.dims, axis + 1);
  const std::vector<ValueId> parts = args.tuple(0);
  for (size_t i = 0; i < parts.size(); ++i) {
    const Tensor& part = context.tensors[static_cast<size_t>(parts[i])];
    copy_columns(part.as<const uint8_t>(), width, y.as<uint8_t>() + i * width, width * parts.size(), width,
                 rows_before(y.dims, axis));
  }
}

std::vector<TensorType> infer_split(const OpArgs& args) {
  refuse_packed(args, 0);
  TensorType part = args.type(0);
  const size_t axis = checked_axis(args, args.int_at(1), part.dims.size());
  const int64_t count = args.int_at(2);
  if (count < 1 || count > 4096 || part.dims[axis] % count != 0) {
    args.invalid("cannot split axis " + std::to_string(axis) + " of " + dims_text(part.dims) + " into " +
                 std::to_string(count));
  }
  part.dims[axis] /= count;
  return std::vector<TensorType>(static_cast<size_t>(count), part);
}

void run_split(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const size_t axis = checked_axis(args, args.int_at(1), x.dims.size());
  const size_t stride = bytes_from(x.dtype, x.dims, axis);
  const size_t parts = args.node().outputs.size();
  const size_t width = stride / parts;
  for (size_t i = 0; i < parts; ++i) {
    const Tensor& y = context.out(args.node(), i);
    copy_columns(x.as<const uint8_t>() + i * width, stride, y.as<uint8_t>(), width, width,
                 rows_before(x.dims, axis));
  }
}

constexpr Operator kTable[] = {
    {"Reshape", infer_reshape, run_copy},
    {"Flatten", infer_flatten, run_copy},
    {"ExpandDims", infer_expand_dims, run_copy},
    {"Squeeze", infer_squeeze, run_copy},
    {"TensorMove", infer_copy, run_copy},
    {"Identity", infer_copy, run_copy},
    {"Transpose", infer_transpose, run_transpose},
    {"BroadcastTo", infer_broadcast_to, run_broadcast_to},
    {"Tile", infer_tile, run_tile},
    {"Concat", infer_concat, run_concat},
    {"Stack", infer_stack, run_stack},
    {"Split", infer_split, run_split},
};

}  // namespace

std::span<const Operator> movement_operators() {
  return kTable;
}

}  // namespace mllm
