#include "kernels/basic/blocks.h"

#include <cstring>

namespace mllm {
namespace {

template <class T, class C>
void load_as(const Tensor& x, int64_t start, int64_t stride, int64_t count, C* to) {
  const T* from = x.as<const T>() + start;
  if constexpr (std::is_same_v<T, C>) {
    if (stride == 1) {
      std::memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
      return;
    }
  }
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<C>(Element<T>::load(from[i * stride]));
}

template <class T, class C>
void store_as(const C* from, int64_t count, const Tensor& y, int64_t start, int64_t stride) {
  T* to = y.as<T>() + start;
  for (int64_t i = 0; i < count; ++i) to[i * stride] = Element<T>::store(static_cast<Compute<T>>(from[i]));
}

[[noreturn]] void wrong_type(const Tensor& t) {
  fail_internal(std::string("elements of type ") + dtype_name(t.dtype) + " in the wrong arithmetic");
}

}  // namespace

void load(const Tensor& x, int64_t start, int64_t stride, int64_t count, float* to) {
  switch (x.dtype) {
    case DType::Float16:
      return load_as<Half>(x, start, stride, count, to);
    case DType::BFloat16:
      return load_as<BFloat>(x, start, stride, count, to);
    case DType::Float32:
      return load_as<float>(x, start, stride, count, to);
    default:
      wrong_type(x);
  }
}

void load(const Tensor& x, int64_t start, int64_t stride, int64_t count, double* to) {
  if (x.dtype != DType::Float64) wrong_type(x);
  load_as<double>(x, start, stride, count, to);
}

void load(const Tensor& x, int64_t start, int64_t stride, int64_t count, int64_t* to) {
  switch (x.dtype) {
    case DType::Int8:
      return load_as<int8_t>(x, start, stride, count, to);
    case DType::Int16:
      return load_as<int16_t>(x, start, stride, count, to);
    case DType::Int32:
      return load_as<int32_t>(x, start, stride, count, to);
    case DType::Int64:
      return load_as<int64_t>(x, start, stride, count, to);
    default:
      wrong_type(x);
  }
}

void load(const Tensor& x, int64_t start, int64_t stride, int64_t count, uint64_t* to) {
  switch (x.dtype) {
    case DType::Bool:
      return load_as<Bool>(x, start, stride, count, to);
    case DType::UInt8:
      return load_as<uint8_t>(x, start, stride, count, to);
    case DType::UInt16:
      return load_as<uint16_t>(x, start, stride, count, to);
    case DType::UInt32:
      return load_as<uint32_t>(x, start, stride, count, to);
    case DType::UInt64:
      return load_as<uint64_t>(x, start, stride, count, to);
    default:
      wrong_type(x);
  }
}

void store(const float* from, int64_t count, const Tensor& y, int64_t start, int64_t stride) {
  switch (y.dtype) {
    case DType::Bool:
      return store_as<Bool>(from, count, y, start, stride);
    case DType::Float16:
      return store_as<Half>(from, count, y, start, stride);
    case DType::BFloat16:
      return store_as<BFloat>(from, count, y, start, stride);
    case DType::Float32:
      return store_as<float>(from, count, y, start, stride);
    default:
      wrong_type(y);
  }
}

void store(const double* from, int64_t count, const Tensor& y, int64_t start, int64_t stride) {
  switch (y.dtype) {
    case DType::Bool:
      return store_as<Bool>(from, count, y, start, stride);
    case DType::Float64:
      return store_as<double>(from, count, y, start, stride);
    default:
      wrong_type(y);
  }
}

void store(const int64_t* from, int64_t count, const Tensor& y, int64_t start, int64_t stride) {
  // What is kept of an integer does not depend on its sign.
  store(reinterpret_cast<const uint64_t*>(from), count, y, start, stride);
}

void store(const uint64_t* from, int64_t count, const Tensor& y, int64_t start, int64_t stride) {
  switch (y.dtype) {
    case DType::Bool:
      return store_as<Bool>(from, count, y, start, stride);
    case DType::Int8:
    case DType::UInt8:
      return store_as<uint8_t>(from, count, y, start, stride);
    case DType::Int16:
    case DType::UInt16:
      return store_as<uint16_t>(from, count, y, start, stride);
    case DType::Int32:
    case DType::UInt32:
      return store_as<uint32_t>(from, count, y, start, stride);
    case DType::Int64:
    case DType::UInt64:
      return store_as<uint64_t>(from, count, y, start, stride);
    default:
      wrong_type(y);
  }
}

}  // namespace mllm
