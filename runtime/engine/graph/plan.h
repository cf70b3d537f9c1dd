// An executable plan: nodes in order, memory for every value, run by one thread at a time.
#ifndef MINDIR_LLM_GRAPH_PLAN_H_
#define MINDIR_LLM_GRAPH_PLAN_H_

#include <atomic>
#include <span>
#include <utility>
#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "graph/ir.h"
#include "graph/operator.h"

namespace mllm {

class Plan {
 public:
  // Takes a graph (fused or not), computes lifetimes and places all computed values in one arena.
  // exact: activations of fused graphs stay float32 in every product, also with quantized weights.
  Plan(Graph graph, ThreadPool& pool, bool exact = false);

  // What a plan of this graph allocates.
  static size_t bytes_needed(Graph graph, ThreadPool& pool);

  const Graph& graph() const { return graph_; }
  size_t arena_bytes() const { return arena_bytes_; }
  // Whether a run writes to the memory bound to this input.
  bool overwrites_input(size_t index) const;

  // Run with inputs bound to caller memory (in graph order, types must equal the graph's). Where a node
  // overwrites a graph input in place, the caller's memory IS overwritten. Outputs are views of the arena, of
  // an input or of a constant, valid until the next run.
  std::vector<Tensor> run(std::span<const Tensor> inputs);

  // For graphs made of fused operators only: compute just the rows of `segments`.
  std::vector<Tensor> run(std::span<const Tensor> inputs, std::span<const Segment> segments);

  // A run that finds the flag set throws CANCELLED between two nodes. null: none is looked at. It must
  // outlive the plan.
  void set_cancel_flag(const std::atomic<bool>* flag) { cancelled_ = flag; }

  // Time spent in each node since profiling was switched on, by node.
  struct NodeTime {
    int64_t calls = 0;
    int64_t nanoseconds = 0;
  };
  void set_profiling(bool on);  // starts from zero
  const std::vector<NodeTime>& profile() const { return profile_; }

 private:
  // Without `allocates` it can do nothing but tell what it would need.
  Plan(Graph graph, ThreadPool& pool, bool exact, bool allocates);

  Graph graph_;
  ThreadPool& pool_;
  bool exact_ = false;
  size_t arena_bytes_ = 0;
  size_t scratch_bytes_ = 0;
  Tensor arena_;
  std::vector<const Operator*> operators_;  // by node
  std::vector<bool> views_;                 // by node: its output is its operand's memory, nothing runs
  std::vector<Tensor> tensors_;             // by ValueId
  std::vector<std::pair<ValueId, ValueId>> shared_;  // (value, value whose memory it shares)
  std::vector<size_t> overwritten_inputs_;
  Tensor scratch_;
  const std::atomic<bool>* cancelled_ = nullptr;
  std::vector<NodeTime> profile_;  // empty while profiling is off
};

}  // namespace mllm

#endif  // MINDIR_LLM_GRAPH_PLAN_H_
