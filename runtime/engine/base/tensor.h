// Element types, shapes and dense tensors: the vocabulary of every layer above.
#ifndef MINDIR_LLM_BASE_TENSOR_H_
#define MINDIR_LLM_BASE_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/memory.h"

namespace mllm {

// Same numbers as mllm_dtype of the C interface (checked in api/).
enum class DType : uint8_t {
  Bool = 0,
  Int8 = 1,
  UInt8 = 2,
  Int16 = 3,
  Int32 = 4,
  Int64 = 5,
  Float16 = 6,
  BFloat16 = 7,
  Float32 = 8,
  Float64 = 9,
  QInt4x2 = 10,  // dims count bytes (pairs), as MindIR stores them
  UInt16 = 11,
  UInt32 = 12,
  UInt64 = 13,
};

using Dims = std::vector<int64_t>;

size_t dtype_size(DType dtype);           // bytes of one element (one pair for QInt4x2)
const char* dtype_name(DType dtype);      // "float32"
std::string dims_text(const Dims& dims);  // "[2, 3]"

// Number of elements; throws FORMAT when a dimension is negative or the byte count would pass 2^47, so that a
// hostile shape cannot overflow an allocation.
int64_t numel(const Dims& dims);
size_t nbytes(DType dtype, const Dims& dims);

struct TensorType {
  DType dtype = DType::Float32;
  Dims dims;
  bool operator==(const TensorType&) const = default;
};

// A dense row-major tensor. `owner` keeps the memory alive (heap block, mapped file); null when borrowed.
struct Tensor {
  DType dtype = DType::Float32;
  Dims dims;
  void* data = nullptr;
  std::shared_ptr<void> owner;

  TensorType type() const { return {dtype, dims}; }
  int64_t size() const { return numel(dims); }
  size_t bytes() const { return nbytes(dtype, dims); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// A zeroed tensor on 64-byte-aligned memory; throws OUT_OF_MEMORY. kind: what the program's allocator is
// told.
Tensor allocate(DType dtype, const Dims& dims, Memory kind = Memory::Other);

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_TENSOR_H_
