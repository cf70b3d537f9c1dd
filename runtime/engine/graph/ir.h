// The engine's graph: what a MindIR becomes once its inputs have concrete shapes.
//
// The importer (graph/importer.h) walks the MindIR once, in order, as an abstract interpreter: structural
// primitives (MakeTuple, TupleGetItem, Depend, Load, UpdateState, Shape, scalar arithmetic, function calls)
// are resolved on the spot, nodes whose inputs are all constants are folded by running their kernel, and what
// remains are computing nodes over tensors with known types. Fusion passes then rewrite nodes; the plan gives
// values memory and runs the nodes.
#ifndef MINDIR_LLM_GRAPH_IR_H_
#define MINDIR_LLM_GRAPH_IR_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/tensor.h"

namespace mllm {

class PackedMatrix;  // kernels/matmul/packed_matrix.h

using ValueId = int32_t;
inline constexpr ValueId kNoValue = -1;

// A compile-time value that is not a tensor: None, bool, int, float, string, tuple.
struct Literal;
using LiteralTuple = std::vector<Literal>;
struct Literal {
  std::variant<std::monostate, bool, int64_t, double, std::string, LiteralTuple> value;
};

struct Value {
  enum class Kind : uint8_t {
    Input,      // graph argument
    Parameter,  // weight; tensor.data points into the mapped weight file or the graph file
    Constant,   // folded tensor, owned
    Computed,   // output of a node
    Literal,    // non-tensor constant
    Tuple,      // elements are values (an operand such as Concat's MakeTuple)
  };
  Kind kind = Kind::Computed;
  std::string name;
  TensorType type;                // for the first four kinds
  Tensor tensor;                  // Parameter, Constant
  Literal literal;                // Literal
  std::vector<ValueId> elements;  // Tuple
  int32_t producer = -1;          // Computed: index into Graph::nodes
  // Computed: this value is the same memory as another value (in-place write to a cache); kNoValue otherwise.
  ValueId alias_of = kNoValue;
  // Parameter: its values as the kernels of fused.Linear read them, once pack_weights() has run.
  std::shared_ptr<const PackedMatrix> packed;
};

struct Node {
  std::string op;               // MindIR primitive ("MatMul") or fused operator ("fused.Linear")
  std::string name;             // node name in the MindIR, for messages
  std::vector<ValueId> inputs;  // as the primitive lists them; kNoValue never occurs, None is a Literal value
  std::vector<ValueId> outputs;
  std::map<std::string, Literal> attributes;  // legacy primitive attributes, or settings of a fused operator
};

struct Graph {
  std::string file;  // for messages
  std::vector<Value> values;
  std::vector<Node> nodes;       // topologically sorted
  std::vector<ValueId> inputs;   // Kind::Input, in order
  std::vector<ValueId> outputs;  // tensors, in order (a flattened tuple)
  std::vector<std::string> output_names;
  std::map<std::string, int64_t> operator_counts;  // primitives of the file, before fusion

  const Value& value(ValueId id) const { return values[static_cast<size_t>(id)]; }
  Value& value(ValueId id) { return values[static_cast<size_t>(id)]; }
  ValueId add_value(Value v) {
    values.push_back(std::move(v));
    return static_cast<ValueId>(values.size() - 1);
  }
};

}  // namespace mllm

#endif  // MINDIR_LLM_GRAPH_IR_H_
