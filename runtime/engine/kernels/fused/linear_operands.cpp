#include "kernels/fused/linear_operands.h"

#include "base/error.h"
#include "kernels/fused/rows.h"

namespace mllm::fused {

int64_t LinearOperands::check(size_t i, int64_t k) const {
  const TensorType& type = args_.type(weight(i));
  const StoredWeights w = stored(i);
  const bool is_integer = w.is_int4() || type.dtype == DType::Int8;
  if ((!is_integer && !is_float_weight(type.dtype)) || type.dims.size() != 2 || type.dims[0] < 1 ||
      type.dims[1] < 1 || w.inputs() != k) {
    args_.invalid("the weight must be a matrix of " + std::to_string(k) + " inputs, found " +
                  dtype_name(type.dtype) + dims_text(type.dims));
  }
  if (is_integer == args_.is_none(scale(i))) args_.invalid("integer weights, and only they, have a scale");
  const int64_t n = w.columns();
  if (!is_integer) {
    if (!args_.is_none(zero(i))) args_.invalid("float weights have no zero points");
    return n;
  }
  if (w.group != 0 && w.group != 32 && w.group != 64 && w.group != 128) {
    args_.invalid("groups of " + std::to_string(w.group) + " weights; there are groups of 32, 64 or 128");
  }
  const int64_t scales = w.group == 0 ? n : n * ((k + w.group - 1) / w.group);
  if (!is_float_weight(args_.dtype(scale(i))) || numel(args_.dims(scale(i))) != scales) {
    args_.invalid("the scale must be float with " + std::to_string(scales) + " elements");
  }
  if (!args_.is_none(zero(i)) &&
      ((!is_float_weight(args_.dtype(zero(i))) && args_.dtype(zero(i)) != DType::Int8) ||
       numel(args_.dims(zero(i))) != scales)) {
    args_.invalid("zero points must be float or int8 with " + std::to_string(scales) + " elements");
  }
  return n;
}

StoredWeights LinearOperands::stored(size_t i) const {
  const auto tensor = [&](size_t operand) -> Tensor {
    const Value& value = args_.graph().value(args_.node().inputs[operand]);
    Tensor t = value.tensor;
    t.dtype = value.type.dtype;
    t.dims = value.type.dims;
    return t;
  };
  StoredWeights out{tensor(weight(i)), args_.is_none(scale(i)) ? Tensor{} : tensor(scale(i)), group()};
  if (!args_.is_none(zero(i))) out.zero = tensor(zero(i));
  out.zero_is_added = zero_is_added();
  // One group is the same as none. (int8 weights without groups are stored the other way round.)
  if (out.is_int4() && out.weight.dims.size() == 2 && out.group >= out.inputs()) out.group = 0;
  return out;
}

const PackedMatrix& LinearOperands::packed(size_t i) const {
  const Value& value = args_.graph().value(args_.node().inputs[weight(i)]);
  if (!value.packed) fail_internal("fused.Linear before its weights were packed");
  return *value.packed;
}

}  // namespace mllm::fused
