// MindIR model + concrete input shapes → Graph.
#ifndef MINDIR_LLM_GRAPH_IMPORTER_H_
#define MINDIR_LLM_GRAPH_IMPORTER_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "graph/ir.h"

namespace mllm {

namespace mindir {
struct Model;
}

// An input, output or parameter as the file declares it.
struct TensorInfo {
  std::string name;
  TensorType type;  // dims may hold -1 (unknown); an unknown rank is {-2}
};
using InputSpec = TensorInfo;

// A parsed MindIR file with its weights mapped (not read). Thread-safe once open.
class ModelFile {
 public:
  // External weight locations are relative to the graph's folder and must stay inside it.
  static std::shared_ptr<const ModelFile> open(const std::string& path);
  ~ModelFile();

  const std::string& path() const;
  const std::vector<InputSpec>& inputs() const;
  // Named by user_info.output_names, else after the nodes that are returned; no two share a name.
  const std::vector<TensorInfo>& outputs() const;
  std::vector<std::string> output_names() const;
  const std::vector<TensorInfo>& parameters() const;
  // Computing primitives by name, each node counted once however often its function is called.
  const std::map<std::string, int64_t>& operator_counts() const;

  // Import for the given input types (all dims known; must agree with inputs()). Throws UNSUPPORTED naming
  // primitive and node, FORMAT for anything inconsistent.
  Graph import(const std::vector<TensorType>& input_types, ThreadPool& pool) const;
  // The same with the file's own static shapes.
  Graph import(ThreadPool& pool) const;

 private:
  struct State;
  explicit ModelFile(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace mllm

#endif  // MINDIR_LLM_GRAPH_IMPORTER_H_
