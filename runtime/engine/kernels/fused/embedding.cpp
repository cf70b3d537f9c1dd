#include <cstring>

#include "base/file.h"
#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"
#include "kernels/fused/vector.h"

namespace mllm::fused {
namespace {

std::vector<TensorType> infer(const OpArgs& args) {
  const TensorType& table = args.type(0);
  const TensorType& ids = args.type(1);
  if (!is_float_weight(table.dtype) || table.dims.size() != 2)
    args.invalid("the table must be a float matrix");
  if (ids.dtype != DType::Int32) args.invalid("token ids must be int32");
  return {{DType::Float32, {numel(ids.dims), table.dims[1]}}};
}

void run(const OpArgs& args, const RunContext& context) {
  const Node& node = args.node();
  const Tensor& table = context.in(node, 0);
  const Tensor& y = context.out(node, 0);
  const auto* ids = context.in(node, 1).as<const int32_t>();
  const int64_t vocab = table.dims[0];
  const int64_t features = table.dims[1];
  const size_t row_bytes = dtype_size(table.dtype) * static_cast<size_t>(features);
  const auto file = MappedFile::file_of(table.data, table.bytes());
  std::vector<uint8_t> buffer(file ? row_bytes : 0);
  for (int64_t r = 0; r < context.rows; ++r) {
    const int64_t id = ids[r];
    if (id < 0 || id >= vocab) {
      fail_argument("token id " + std::to_string(id) + " is outside of the vocabulary of " +
                    std::to_string(vocab));
    }
    float* row = y.as<float>() + r * features;
    const uint8_t* stored = table.as<const uint8_t>() + static_cast<size_t>(id) * row_bytes;
    if (file) {
      file->copy(stored, row_bytes, buffer.data());
      stored = buffer.data();
    }
    if (table.dtype == DType::Float16) {
      vector_kernels().from_f16(reinterpret_cast<const uint16_t*>(stored), row, features);
    } else {
      std::memcpy(row, stored, row_bytes);
    }
  }
}

}  // namespace

Operator embedding_operator() {
  return {"fused.Embedding", infer, run};
}

}  // namespace mllm::fused
