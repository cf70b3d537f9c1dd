// Arithmetic of the plain kernels: done in four types, whatever tensors hold. Blocks of elements are
// converted on their way in and out, so that a kernel is compiled four times and not thirteen.
#ifndef MINDIR_LLM_KERNELS_BASIC_BLOCKS_H_
#define MINDIR_LLM_KERNELS_BASIC_BLOCKS_H_

#include <algorithm>
#include <cstdint>

#include "kernels/basic/elements.h"

namespace mllm {

// Elements that are converted at a time.
inline constexpr int64_t kBlock = 256;

// Call f(TypeTag<C>{}) with the type that elements of `dtype` are computed in: float for the 16-bit floats
// too, double, int64_t for signed integers, uint64_t for unsigned ones and bool. Integers wrap when they are
// stored, so sums and products are those of the narrow type. Refuses qint4x2, which has no single elements.
template <class F>
void visit_arithmetic(const OpArgs& args, DType dtype, F&& f) {
  switch (dtype) {
    case DType::Float16:
    case DType::BFloat16:
    case DType::Float32:
      return f(TypeTag<float>{});
    case DType::Float64:
      return f(TypeTag<double>{});
    case DType::Int8:
    case DType::Int16:
    case DType::Int32:
    case DType::Int64:
      return f(TypeTag<int64_t>{});
    case DType::Bool:
    case DType::UInt8:
    case DType::UInt16:
    case DType::UInt32:
    case DType::UInt64:
      return f(TypeTag<uint64_t>{});
    case DType::QInt4x2:
      break;
  }
  args.unsupported(std::string("elements of type ") + dtype_name(dtype));
}

// `count` elements of a tensor from index `start` on, `stride` apart. The type is the one that
// visit_arithmetic gives.
void load(const Tensor& x, int64_t start, int64_t stride, int64_t count, float* to);
void load(const Tensor& x, int64_t start, int64_t stride, int64_t count, double* to);
void load(const Tensor& x, int64_t start, int64_t stride, int64_t count, int64_t* to);
void load(const Tensor& x, int64_t start, int64_t stride, int64_t count, uint64_t* to);

// The opposite. Any of the types may also be stored as bool (all but 0 is true).
void store(const float* from, int64_t count, const Tensor& y, int64_t start, int64_t stride = 1);
void store(const double* from, int64_t count, const Tensor& y, int64_t start, int64_t stride = 1);
void store(const int64_t* from, int64_t count, const Tensor& y, int64_t start, int64_t stride = 1);
void store(const uint64_t* from, int64_t count, const Tensor& y, int64_t start, int64_t stride = 1);

// A number as it is after it was stored in an element.
template <class C>
C rounded(DType dtype, C number) {
  uint64_t element = 0;
  const Tensor one{dtype, {1}, &element, nullptr};
  store(&number, 1, one, 0);
  load(one, 0, 1, 1, &number);
  return number;
}

// Elements of a line as an array: in place where that is what they are, else converted into `buffer`.
template <class C>
const C* line_of(const Tensor& x, int64_t start, int64_t stride, int64_t count, C* buffer) {
  const bool is_plain = stride == 1 && ((std::is_same_v<C, float> && x.dtype == DType::Float32) ||
                                        (std::is_same_v<C, double> && x.dtype == DType::Float64));
  if (is_plain) return x.as<const C>() + start;
  load(x, start, stride, count, buffer);
  return buffer;
}

// y = loop(x), element by element; `loop` changes a block in place.
template <class C>
void map_blocks(const Tensor& x, const Tensor& y, void (*loop)(C*, int64_t)) {
  C block[kBlock];
  const int64_t total = y.size();
  for (int64_t i = 0; i < total; i += kBlock) {
    const int64_t count = std::min(kBlock, total - i);
    load(x, i, 1, count, block);
    loop(block, count);
    store(block, count, y, i);
  }
}

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_BASIC_BLOCKS_H_
