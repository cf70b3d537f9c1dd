// The operands of fused.Linear, by name.
#ifndef MINDIR_LLM_KERNELS_FUSED_LINEAR_OPERANDS_H_
#define MINDIR_LLM_KERNELS_FUSED_LINEAR_OPERANDS_H_

#include <cstddef>
#include <cstdint>

#include "graph/operator.h"
#include "kernels/matmul/packed_matrix.h"

namespace mllm::fused {

class LinearOperands {
 public:
  static constexpr size_t kX = 0, kGamma = 1, kResidual = 2, kFirstWeight = 3;

  explicit LinearOperands(const OpArgs& args) : args_(args) {}

  // Of each weight.
  static constexpr size_t kOperands = 4;

  size_t count() const { return (args_.count() - kFirstWeight) / kOperands; }
  static size_t weight(size_t i) { return kFirstWeight + kOperands * i; }
  static size_t scale(size_t i) { return weight(i) + 1; }
  static size_t zero(size_t i) { return weight(i) + 2; }
  static size_t bias(size_t i) { return weight(i) + 3; }

  bool has_gamma() const { return !args_.is_none(kGamma); }
  float eps() const { return static_cast<float>(args_.attribute_float("eps")); }
  bool is_swiglu() const { return args_.attribute("swiglu") != nullptr; }
  int64_t group() const { return args_.attribute_int("group", 0); }
  bool zero_is_added() const { return args_.attribute("zero_is_added") != nullptr; }
  // Quantized activations are part of the graph, not of how it is run: int8, one scale per row; or, with a
  // factor other than 0, x * factor + zero, -128 … 127. A bias of int32 is added to the sums of integers.
  bool has_int8_rows() const { return args_.attribute("int8_rows") != nullptr; }
  float input_factor() const { return setting("input_factor"); }
  float input_zero() const { return setting("input_zero"); }

  // Weight i must be a matrix of k inputs with the scales that its type needs; returns its columns.
  int64_t check(size_t i, int64_t k) const;
  StoredWeights stored(size_t i) const;        // types only, unless the value has its data
  const PackedMatrix& packed(size_t i) const;  // after pack_weights()

 private:
  float setting(const char* name) const {
    return args_.attribute(name) ? static_cast<float>(args_.attribute_float(name)) : 0.0f;
  }

  const OpArgs& args_;
};

// Memory that each thread keeps for this node, at most.
size_t linear_thread_bytes(const OpArgs& args);

}  // namespace mllm::fused

#endif  // MINDIR_LLM_KERNELS_FUSED_LINEAR_OPERANDS_H_
