#include "base/tensor.h"

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

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
  bool empty = false;
  for (const int64_t d : dims) {
    if (d < 0) fail_format("a shape has a negative dimension: " + dims_text(dims));
    // Zeros are left out here, so that strides of an empty tensor cannot overflow either.
    const int64_t factor = d == 0 ? 1 : d;
    if (count > kLimit / factor) fail_format("a shape is too large: " + dims_text(dims));
    count *= factor;
    empty = empty || d == 0;
  }
  return empty ? 0 : count;
}

size_t nbytes(DType dtype, const Dims& dims) {
  const uint64_t bytes = static_cast<uint64_t>(numel(dims)) * dtype_size(dtype);
  // 32-bit machines: no object is larger, and no offset inside of one overflows.
  if (bytes > PTRDIFF_MAX) fail_format("a shape is too large for this machine: " + dims_text(dims));
  return static_cast<size_t>(bytes);
}

namespace {

// Linux grants more memory than there is and kills the process that touches it; ask the machine first.
size_t physical_memory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page_size = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && page_size > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(page_size) : SIZE_MAX;
}

}  // namespace

Tensor allocate(DType dtype, const Dims& dims, Memory kind) {
  static const size_t limit = physical_memory();
  Tensor t{dtype, dims, nullptr, nullptr};
  const size_t size = (t.bytes() + 63) / 64 * 64;
  if (auto block = size <= limit ? allocate_hooked(kind, size, 64) : nullptr) {
    t.data = block.get();
    t.owner = std::move(block);
    return t;
  }
  void* data = size <= limit ? std::aligned_alloc(64, size ? size : 64) : nullptr;
  if (!data)
    throw Error(MLLM_ERROR_OUT_OF_MEMORY,
                "out of memory: cannot allocate " + std::to_string(size) + " bytes");
  std::memset(data, 0, size);
  t.data = data;
  t.owner = std::shared_ptr<void>(data, std::free);
  return t;
}

}  // namespace mllm
