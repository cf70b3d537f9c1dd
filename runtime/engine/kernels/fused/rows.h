// What the fused operators share: activations are float32 [rows, features]. Which rows exist is known at run
// time only; the rows of a type in the graph are the most there can be.
#ifndef MINDIR_LLM_KERNELS_FUSED_ROWS_H_
#define MINDIR_LLM_KERNELS_FUSED_ROWS_H_

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/half.h"
#include "graph/operator.h"

namespace mllm::fused {

// Nodes behind fused.SelectLast carry this attribute: they have one row per segment that wants logits.
inline constexpr const char* kLastRowsOnly = "last";

inline int64_t selected_rows(const RunContext& context) {
  int64_t rows = 0;
  for (const Segment& s : context.segments) rows += s.wants_logits ? 1 : 0;
  return rows;
}

// How many rows of its operands this node computes now.
inline int64_t rows_now(const OpArgs& args, const RunContext& context) {
  return args.attribute(kLastRowsOnly) ? selected_rows(context) : context.rows;
}

// Operand i must be an activation; returns its type.
inline const TensorType& activation(const OpArgs& args, size_t i) {
  const TensorType& type = args.type(i);
  if (type.dtype != DType::Float32 || type.dims.size() != 2 || type.dims[0] < 1 || type.dims[1] < 1) {
    args.invalid("operand " + std::to_string(i) + " must be float32 [rows, features], found " +
                 dtype_name(type.dtype) + dims_text(type.dims));
  }
  return type;
}

inline bool is_float_weight(DType dtype) {
  return dtype == DType::Float32 || dtype == DType::Float16;
}

// Element i of a float16 or float32 tensor.
inline float float_element(const Tensor& tensor, int64_t i) {
  return tensor.dtype == DType::Float16 ? half_to_float(tensor.as<const uint16_t>()[i])
                                        : tensor.as<const float>()[i];
}

}  // namespace mllm::fused

#endif  // MINDIR_LLM_KERNELS_FUSED_ROWS_H_
