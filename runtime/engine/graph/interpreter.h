// The abstract interpreter behind the importer: walks a MindIR's nodes once, in list order, and builds a
// Graph.
#ifndef MINDIR_LLM_GRAPH_INTERPRETER_H_
#define MINDIR_LLM_GRAPH_INTERPRETER_H_

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/thread_pool.h"
#include "graph/ir.h"
#include "graph/operator.h"
#include "mindir/model.h"

namespace mllm {

// What the nodes of a file refer to by name.
struct FileTables {
  std::unordered_map<std::string_view, const mindir::PrimitiveMessage*> primitives;
  std::unordered_map<std::string_view, const mindir::GraphMessage*> functions;
};

class Interpreter {
 public:
  Interpreter(const std::string& path, const FileTables& tables, ThreadPool& pool);

  void add_parameter(std::string_view name, Tensor tensor);
  void add_input(std::string_view name, const TensorType& type);
  // Run the main graph. Outputs are flattened; each is named after the value it returns.
  Graph run(const mindir::GraphMessage& main);

 private:
  using Frame = std::unordered_map<std::string_view, ValueId>;
  using NodeMessage = mindir::NodeMessage;
  using AttributeMessage = mindir::AttributeMessage;

  ValueId add(Value v);
  void define(Frame& frame, std::string_view name, ValueId id);
  ValueId find(const Frame& frame, std::string_view name, const NodeMessage& user) const;
  std::string node_text(const NodeMessage& n) const;

  void run_graph(const mindir::GraphMessage& g, Frame& frame, int depth);
  ValueId evaluate(const NodeMessage& n, const Frame& frame, int depth);
  ValueId call(const NodeMessage& n, const mindir::GraphMessage& f, const std::vector<ValueId>& arguments,
               int depth);
  ValueId primitive(const NodeMessage& n, const mindir::PrimitiveMessage& p, std::vector<ValueId> inputs);
  ValueId compute(const NodeMessage& n, Node node, const Operator& definition);
  std::vector<TensorType> infer(const Node& node, const Operator& definition) const;
  bool check_declared_types(const NodeMessage& n, const Node& node,
                            const std::vector<TensorType>& types) const;
  bool is_constant(ValueId id) const;
  bool foldable(const Node& node, const std::vector<TensorType>& types);
  void fold(const Node& node, const Operator& definition);

  ValueId literal(Literal l, std::string name);
  ValueId make_tuple(std::vector<ValueId> elements, std::string name);
  ValueId constant(const NodeMessage& n);
  ValueId constant_value(const AttributeMessage& a, const NodeMessage& n, int level);
  ValueId constant_tensor(Tensor t, std::string name);
  Literal scalar(const AttributeMessage& a, const NodeMessage& n, bool in_tuple) const;
  void spend_items(size_t count);
  void flatten_output(ValueId id, const std::string& name);

  const std::string& path_;
  const FileTables& tables_;
  ThreadPool& pool_;
  Graph graph_;
  Frame parameters_;
  Frame main_;
  std::vector<Tensor> tensors_;  // of constants, by ValueId, for folding
  // Tuple values: how deep they nest and how many tensors and literals they hold.
  struct TupleExtent {
    size_t depth = 0;
    size_t leaves = 1;
  };
  std::unordered_map<ValueId, TupleExtent> tuples_;
  std::unordered_map<const NodeMessage*, ValueId> constants_;  // one copy however often a function is called
  size_t executed_ = 0;
  size_t items_ = 0;
  size_t folded_bytes_ = 0;
};

}  // namespace mllm

#endif  // MINDIR_LLM_GRAPH_INTERPRETER_H_
