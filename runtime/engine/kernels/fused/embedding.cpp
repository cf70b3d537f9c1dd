#include <algorithm>

#include "base/file.h"
#include "kernels/fused/operators.h"
#include "kernels/fused/rows.h"
#include "kernels/fused/vector.h"

namespace mllm::fused {
namespace {

constexpr int64_t kRowsBetweenReleases = 16;

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
  for (int64_t r = 0; r < context.rows; ++r) {
    // Each row of a mapped table may bring in pages that are never needed again.
    if (r % kRowsBetweenReleases == kRowsBetweenReleases - 1) MappedFile::release(table.data, table.bytes());
    const int64_t id = ids[r];
    if (id < 0 || id >= vocab) {
      fail_argument("token id " + std::to_string(id) + " is outside of the vocabulary of " +
                    std::to_string(vocab));
    }
    float* row = y.as<float>() + r * features;
    if (table.dtype == DType::Float16) {
      vector_kernels().from_f16(table.as<const uint16_t>() + id * features, row, features);
    } else {
      std::copy_n(table.as<const float>() + id * features, features, row);
    }
  }
}

}  // namespace

Operator embedding_operator() {
  return {"fused.Embedding", infer, run};
}

}  // namespace mllm::fused
