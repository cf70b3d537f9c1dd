// Element access for the plain kernels: one load/store pair per dtype, conversions, and walks over index
// spaces.
#ifndef MINDIR_LLM_KERNELS_BASIC_ELEMENTS_H_
#define MINDIR_LLM_KERNELS_BASIC_ELEMENTS_H_

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "base/error.h"
#include "base/half.h"
#include "graph/operator.h"

namespace mllm {

// Storage types of the two 16-bit floats. Arithmetic on them happens in float, rounded once when stored.
struct Half {
  uint16_t bits;
};
struct BFloat {
  uint16_t bits;
};
// A byte of a bool tensor. Files may hold any value, which a C++ bool must not; every value but 0 is true.
struct Bool {
  uint8_t bits;
};

template <class T>
struct Element {
  using Compute = T;
  static T load(T v) { return v; }
  static T store(T v) { return v; }
};
template <>
struct Element<Half> {
  using Compute = float;
  static float load(Half v) { return half_to_float(v.bits); }
  static Half store(float v) { return {float_to_half(v)}; }
};
template <>
struct Element<BFloat> {
  using Compute = float;
  static float load(BFloat v) { return bfloat_to_float(v.bits); }
  static BFloat store(float v) { return {float_to_bfloat(v)}; }
};

template <>
struct Element<Bool> {
  using Compute = bool;
  static bool load(Bool v) { return v.bits != 0; }
  static Bool store(bool v) { return {v}; }
};

template <class T>
using Compute = typename Element<T>::Compute;

template <class T>
struct TypeTag {
  using type = T;
};

inline bool is_float(DType d) {
  return d == DType::Float16 || d == DType::BFloat16 || d == DType::Float32 || d == DType::Float64;
}
inline bool is_integer(DType d) {
  return !is_float(d) && d != DType::Bool && d != DType::QInt4x2;
}

// Float to integer truncates, then wraps, and NaN gives 0, as stock MindSpore does on x86. Going through
// int64 keeps it defined; what lies outside int64 becomes the smallest one, as the hardware conversion gives.
template <class To, class From>
To convert(From v) {
  if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (std::isnan(v)) return 0;
    if (v >= From(9223372036854775808.0) || v < From(-9223372036854775808.0)) {
      return static_cast<To>(std::numeric_limits<int64_t>::min());
    }
    return static_cast<To>(static_cast<int64_t>(v));
  } else {
    return static_cast<To>(v);
  }
}

// Numbers for a tensor's bytes as unsigned words of the element size, for kernels that only move data.
template <class F>
void visit_size(size_t element_bytes, F&& f) {
  switch (element_bytes) {
    case 1:
      return f(TypeTag<uint8_t>{});
    case 2:
      return f(TypeTag<uint16_t>{});
    case 4:
      return f(TypeTag<uint32_t>{});
    default:
      return f(TypeTag<uint64_t>{});
  }
}

// The type that a constant names with MindSpore's TypeId number.
DType dtype_of_type_id(const OpArgs& args, int64_t id);

// Negative axes count from the end; out of range is an error of the file.
inline size_t checked_axis(const OpArgs& args, int64_t axis, size_t rank) {
  const auto r = static_cast<int64_t>(rank);
  if (axis < -r || axis >= r)
    args.invalid("axis " + std::to_string(axis) + " of a tensor of rank " + std::to_string(rank));
  return static_cast<size_t>(axis < 0 ? axis + r : axis);
}

inline Dims row_major_strides(const Dims& dims) {
  Dims strides(dims.size(), 1);
  for (size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

// Walks an index space in row-major order, keeping one running offset per operand.
template <size_t N>
class Walker {
 public:
  Walker(const Dims& dims, const Dims (&strides)[N]) : dims_(dims), index_(dims.size(), 0) {
    for (size_t k = 0; k < N; ++k) strides_[k] = strides[k];
  }
  int64_t offset(size_t k) const { return offsets_[k]; }
  void step() {
    for (size_t d = dims_.size(); d-- > 0;) {
      if (++index_[d] < dims_[d]) {
        for (size_t k = 0; k < N; ++k) offsets_[k] += strides_[k][d];
        return;
      }
      for (size_t k = 0; k < N; ++k) offsets_[k] -= strides_[k][d] * (dims_[d] - 1);
      index_[d] = 0;
    }
  }

 private:
  Dims dims_;
  Dims index_;
  Dims strides_[N];
  int64_t offsets_[N] = {};
};

// numpy broadcasting: the common shape of two, and the strides with which an operand is read (0 where
// repeated).
Dims broadcast_dims(const OpArgs& args, const Dims& a, const Dims& b);
Dims broadcast_strides(const Dims& from, const Dims& to);

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_BASIC_ELEMENTS_H_
