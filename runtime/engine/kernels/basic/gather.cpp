// Reads by index: Gather, GatherD, Embedding.
#include <cstring>

#include "kernels/basic/elements.h"
#include "kernels/basic/groups.h"
#include "kernels/basic/indices.h"

namespace mllm {
namespace {

// Table seen as [batch, outer, size, inner], indices as [batch, count].
struct GatherShape {
  int64_t batch = 1, outer = 1, size = 1, inner = 1, count = 1;
};

GatherShape gather_shape(const OpArgs& args, Dims& out) {
  const Dims& table = args.dims(0);
  const Dims& indices = args.dims(1);
  const size_t axis = checked_axis(args, args.int_at(2), table.size());
  const int64_t requested = args.count() > 3 ? args.int_at(3) : 0;
  const int64_t batch_dims = requested < 0 ? requested + static_cast<int64_t>(indices.size()) : requested;
  if (batch_dims < 0 || batch_dims > static_cast<int64_t>(axis) ||
      batch_dims > static_cast<int64_t>(indices.size())) {
    args.invalid("batch_dims " + std::to_string(requested) + " with axis " + std::to_string(axis));
  }
  const auto lead = static_cast<size_t>(batch_dims);
  GatherShape s;
  for (size_t d = 0; d < table.size(); ++d) {
    if (d < lead) {
      if (table[d] != indices[d])
        args.invalid("batch dimensions differ: " + dims_text(table) + " and " + dims_text(indices));
      s.batch *= table[d];
    } else if (d < axis) {
      s.outer *= table[d];
    } else if (d > axis) {
      s.inner *= table[d];
    }
  }
  s.size = table[axis];
  for (size_t d = lead; d < indices.size(); ++d) s.count *= indices[d];
  out.assign(table.begin(), table.begin() + static_cast<std::ptrdiff_t>(axis));
  out.insert(out.end(), indices.begin() + static_cast<std::ptrdiff_t>(lead), indices.end());
  out.insert(out.end(), table.begin() + static_cast<std::ptrdiff_t>(axis) + 1, table.end());
  return s;
}

std::vector<TensorType> infer_gather(const OpArgs& args) {
  require_indices(args, 1);
  if (args.dtype(0) == DType::QInt4x2) args.unsupported("a table of type qint4x2");
  Dims dims;
  gather_shape(args, dims);
  return {{args.dtype(0), dims}};
}

void run_gather(const OpArgs& args, const RunContext& context) {
  Dims dims;
  const GatherShape s = gather_shape(args, dims);
  const Tensor& table = context.in(args.node(), 0);
  const Tensor& indices = context.in(args.node(), 1);
  const Tensor& y = context.out(args.node(), 0);
  const size_t width = static_cast<size_t>(s.inner) * dtype_size(y.dtype);
  if (y.bytes() == 0) return;  // any of the extents below may still be huge
  auto* out = y.as<uint8_t>();
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t o = 0; o < s.outer; ++o) {
      for (int64_t i = 0; i < s.count; ++i, out += width) {
        const int64_t index = wrapped_index(args, index_at(indices, b * s.count + i), s.size);
        std::memcpy(
            out, table.as<const uint8_t>() + static_cast<size_t>((b * s.outer + o) * s.size + index) * width,
            width);
      }
    }
  }
}

std::vector<TensorType> infer_embedding(const OpArgs& args) {
  require_indices(args, 0);
  if (args.dims(1).size() != 2 || args.dtype(1) == DType::QInt4x2)
    args.unsupported("a table that is not a plain matrix");
  if (args.count() > 3 && !args.is_none(3)) args.unsupported("max_norm");
  Dims dims = args.dims(0);
  dims.push_back(args.dims(1)[1]);
  return {{args.dtype(1), dims}};
}

void run_embedding(const OpArgs& args, const RunContext& context) {
  const Tensor& ids = context.in(args.node(), 0);
  const Tensor& table = context.in(args.node(), 1);
  const Tensor& y = context.out(args.node(), 0);
  const size_t width = static_cast<size_t>(table.dims[1]) * dtype_size(y.dtype);
  const int64_t count = ids.size();
  for (int64_t i = 0; i < count; ++i) {
    const int64_t id = wrapped_index(args, index_at(ids, i), table.dims[0]);
    if (width)
      std::memcpy(y.as<uint8_t>() + static_cast<size_t>(i) * width,
                  table.as<const uint8_t>() + static_cast<size_t>(id) * width, width);
  }
}

std::vector<TensorType> infer_gather_d(const OpArgs& args) {
  require_indices(args, 2);
  const Dims& x = args.dims(0);
  const Dims& index = args.dims(2);
  const size_t axis = checked_axis(args, args.int_at(1), x.size());
  if (x.size() != index.size() || args.dtype(0) == DType::QInt4x2)
    args.invalid("input and index differ in rank");
  for (size_t d = 0; d < x.size(); ++d) {
    if (d != axis && index[d] > x[d])
      args.invalid("index " + dims_text(index) + " is larger than the input " + dims_text(x));
  }
  return {{args.dtype(0), index}};
}

void run_gather_d(const OpArgs& args, const RunContext& context) {
  const Tensor& x = context.in(args.node(), 0);
  const Tensor& index = context.in(args.node(), 2);
  const Tensor& y = context.out(args.node(), 0);
  const size_t axis = checked_axis(args, args.int_at(1), x.dims.size());
  Dims strides[1] = {row_major_strides(x.dims)};
  const int64_t axis_stride = strides[0][axis];
  strides[0][axis] = 0;
  const int64_t total = y.size();
  visit_size(dtype_size(y.dtype), [&](auto tag) {
    using T = typename decltype(tag)::type;
    Walker<1> walk(y.dims, strides);
    for (int64_t i = 0; i < total; ++i) {
      y.as<T>()[i] = x.as<const T>()[walk.offset(0) +
                                     wrapped_index(args, index_at(index, i), x.dims[axis]) * axis_stride];
      walk.step();
    }
  });
}

constexpr Operator kTable[] = {
    {"Gather", infer_gather, run_gather},
    {"Embedding", infer_embedding, run_embedding},
    {"GatherD", infer_gather_d, run_gather_d},
};

}  // namespace

std::span<const Operator> gather_operators() {
  return kTable;
}

}  // namespace mllm
