#include "base/tensor.h"

#include <cstdlib>
#include <cstring>
#include <new>

#include "base/error.h"

namespace mllm {

size_t dtype_size(DType dtype) {
  switch (dtype) {
    case DType::Bool:
    case DType::Int8:
    case DType::UInt8:
    case DType::QInt4x2:
      return 1;
    case DType::Int16:
    case DType::UInt16:
    case DType::Float16:
    case DType::BFloat16:
      return 2;
    case DType::Int32:
    case DType::UInt32:
    case DType::Float32:
      return 4;
    case DType::Int64:
    case DType::UInt64:
    case DType::Float64:
      return 8;
  }
  fail_internal("dtype_size: unknown dtype");
}

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::Bool:
      return "bool";
    case DType::Int8:
      return "int8";
    case DType::UInt8:
      return "uint8";
    case DType::Int16:
      return "int16";
    case DType::Int32:
      return "int32";
    case DType::Int64:
      return "int64";
    case DType::Float16:
      return "float16";
    case DType::BFloat16:
      return "bfloat16";
    case DType::Float32:
      return "float32";
    case DType::Float64:
      return "float64";
    case DType::QInt4x2:
      return "qint4x2";
    case DType::UInt16:
      return "uint16";
    case DType::UInt32:
      return "uint32";
    case DType::UInt64:
      return "uint64";
  }
  return "unknown";
}

std::string dims_text(const Dims& dims) {
  std::string text = "[";
  for (size_t i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + "]";
}

int64_t numel(const Dims& dims) {
  constexpr int64_t kLimit = int64_t{1} << 44;  // times 8 bytes: 2^47
  int64_t count = 1;
  for (const int64_t d : dims) {
    if (d < 0) fail_format("a shape has a negative dimension: " + dims_text(dims));
    if (d != 0 && count > kLimit / d) fail_format("a shape is too large: " + dims_text(dims));
    count *= d;
  }
  return count;
}

size_t nbytes(DType dtype, const Dims& dims) {
  return static_cast<size_t>(numel(dims)) * dtype_size(dtype);
}

Tensor allocate(DType dtype, const Dims& dims) {
  Tensor t{dtype, dims, nullptr, nullptr};
  const size_t size = (t.bytes() + 63) / 64 * 64;
  void* data = std::aligned_alloc(64, size ? size : 64);
  if (!data)
    throw Error(MLLM_ERROR_OUT_OF_MEMORY,
                "out of memory: cannot allocate " + std::to_string(size) + " bytes");
  std::memset(data, 0, size);
  t.data = data;
  t.owner = std::shared_ptr<void>(data, std::free);
  return t;
}

}  // namespace mllm
