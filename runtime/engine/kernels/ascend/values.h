// Reading and writing tensors of any float type as float32.
#ifndef MINDIR_LLM_KERNELS_ASCEND_VALUES_H_
#define MINDIR_LLM_KERNELS_ASCEND_VALUES_H_

#include <vector>

#include "kernels/basic/elements.h"

namespace mllm {

inline float read_float(const Tensor& t, int64_t i) {
  switch (t.dtype) {
    case DType::Float16:
      return half_to_float(t.as<const uint16_t>()[i]);
    case DType::BFloat16:
      return bfloat_to_float(t.as<const uint16_t>()[i]);
    default:
      return t.as<const float>()[i];
  }
}

inline void write_float(const Tensor& t, int64_t i, float v) {
  switch (t.dtype) {
    case DType::Float16:
      t.as<uint16_t>()[i] = float_to_half(v);
      break;
    case DType::BFloat16:
      t.as<uint16_t>()[i] = float_to_bfloat(v);
      break;
    default:
      t.as<float>()[i] = v;
      break;
  }
}

inline std::vector<float> read_floats(const Tensor& t) {
  std::vector<float> out(static_cast<size_t>(t.size()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = read_float(t, static_cast<int64_t>(i));
  return out;
}

// float16, bfloat16 or float32.
inline void require_float(const OpArgs& args, size_t i) {
  const DType d = args.dtype(i);
  if (d != DType::Float16 && d != DType::BFloat16 && d != DType::Float32) {
    args.unsupported("operand " + std::to_string(i) + " of type " + dtype_name(d));
  }
}

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_ASCEND_VALUES_H_
