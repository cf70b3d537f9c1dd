// What an operator is to the engine: a name, type inference with argument checks, and a kernel.
#ifndef MINDIR_LLM_GRAPH_OPERATOR_H_
#define MINDIR_LLM_GRAPH_OPERATOR_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "graph/ir.h"

namespace mllm {

// Read access to one node's operands with checks; every getter throws UNSUPPORTED or FORMAT naming file,
// node, operand.
class OpArgs {
 public:
  OpArgs(const Graph& graph, const Node& node) : graph_(graph), node_(node) {}

  const Graph& graph() const { return graph_; }
  const Node& node() const { return node_; }
  size_t count() const { return node_.inputs.size(); }
  bool is_none(size_t i) const;
  bool is_tensor(size_t i) const;          // Input, Parameter, Constant or Computed
  const TensorType& type(size_t i) const;  // of a tensor operand
  const Dims& dims(size_t i) const { return type(i).dims; }
  DType dtype(size_t i) const { return type(i).dtype; }
  std::vector<ValueId> tuple(size_t i) const;  // elements of a Tuple operand (tensors)
  int64_t int_at(size_t i) const;              // Literal int (or bool)
  double float_at(size_t i) const;             // Literal float or int
  bool bool_at(size_t i) const;
  std::vector<int64_t> ints_at(
      size_t i) const;  // Literal tuple of ints, or one int, or a constant int tensor
  const Literal* attribute(std::string_view name) const;  // null when absent
  int64_t attribute_int(std::string_view name, std::optional<int64_t> fallback = std::nullopt) const;
  double attribute_float(std::string_view name) const;
  [[noreturn]] void unsupported(const std::string& why) const;  // "FILE: node NAME (OP): why"
  [[noreturn]] void invalid(const std::string& why) const;      // FORMAT, same form

 private:
  const Graph& graph_;
  const Node& node_;
};

// The rows that one call computes, for fused operators. Activations are [rows, features]: the rows of segment
// s are row0 … row0+n-1, its tokens sit at positions position … position+n-1 of batch slot `slot`.
struct Segment {
  int32_t slot = 0;
  int32_t position = 0;
  int32_t n = 0;
  int32_t row0 = 0;
  bool wants_logits = true;  // false: the chunk of a longer prompt, whose last row need not reach the lm_head
};

// What a kernel sees at run time. Tensors are indexed by ValueId; those of Literal and Tuple values are
// empty.
struct RunContext {
  const Graph& graph;
  std::span<Tensor> tensors;
  ThreadPool& pool;
  std::span<const Segment> segments = {};  // fused operators only
  int32_t rows = 0;                        // sum of segment lengths
  bool exact = false;                      // fused operators: activations stay float32 in every product
  void* scratch = nullptr;                 // scratch_bytes(node) bytes, 64-byte aligned, for this node only

  Tensor& in(const Node& node, size_t i) const { return tensors[static_cast<size_t>(node.inputs[i])]; }
  Tensor& out(const Node& node, size_t i) const { return tensors[static_cast<size_t>(node.outputs[i])]; }
};

// Products of int8 with int8 have no more inputs, so that their sums fit 32 bits.
inline constexpr int64_t kMostInt8Inputs = 1 << 16;

struct Operator {
  std::string_view name;
  // Check the operands and return the output types; one entry per output.
  std::vector<TensorType> (*infer)(const OpArgs&);
  void (*run)(const OpArgs&, const RunContext&);
  // Index of the input that output 0 overwrites in place, or -1.
  int in_place_input = -1;
  // Bytes of scratch memory a run needs, or null for none.
  size_t (*scratch_bytes)(const OpArgs&, int threads) = nullptr;
};

// null when the engine has no such operator. Tables live in kernels/ (one file per concern) and are
// concatenated in graph/operator.cpp.
const Operator* find_operator(std::string_view name);
std::vector<std::string_view> operator_names();

}  // namespace mllm

#endif  // MINDIR_LLM_GRAPH_OPERATOR_H_
