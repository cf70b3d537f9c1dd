// Index tensors (int32 or int64) of the gather and scatter kernels.
#ifndef MINDIR_LLM_KERNELS_BASIC_INDICES_H_
#define MINDIR_LLM_KERNELS_BASIC_INDICES_H_

#include <string>

#include "base/error.h"
#include "graph/operator.h"

namespace mllm {

inline void require_indices(const OpArgs& args, size_t i) {
  if (args.dtype(i) != DType::Int32 && args.dtype(i) != DType::Int64) {
    args.unsupported(std::string("indices of type ") + dtype_name(args.dtype(i)));
  }
}

inline int64_t index_at(const Tensor& t, int64_t i) {
  return t.dtype == DType::Int32 ? t.as<const int32_t>()[i] : t.as<const int64_t>()[i];
}

// The caller's or the graph's data asks for a row that does not exist.
[[noreturn]] inline void index_out_of_range(const OpArgs& args, int64_t index, int64_t low, int64_t size) {
  fail_argument(args.graph().file + ": node " + args.node().name + " (" + args.node().op + "): index " +
                std::to_string(index) + " is outside [" + std::to_string(low) + ", " + std::to_string(size) +
                ")");
}

// Negative indices count from the end.
inline int64_t wrapped_index(const OpArgs& args, int64_t index, int64_t size) {
  const int64_t wrapped = index < 0 ? index + size : index;
  if (wrapped < 0 || wrapped >= size) index_out_of_range(args, index, -size, size);
  return wrapped;
}

inline int64_t plain_index(const OpArgs& args, int64_t index, int64_t size) {
  if (index < 0 || index >= size) index_out_of_range(args, index, 0, size);
  return index;
}

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_BASIC_INDICES_H_
