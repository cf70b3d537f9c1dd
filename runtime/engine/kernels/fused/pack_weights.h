// Preparation of fused graphs before they run.
#ifndef MINDIR_LLM_KERNELS_FUSED_PACK_WEIGHTS_H_
#define MINDIR_LLM_KERNELS_FUSED_PACK_WEIGHTS_H_

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "graph/ir.h"
#include "kernels/matmul/packed_matrix.h"

namespace mllm {

// Gives every weight of a fused.Linear its packed form (Value::packed), one for all graphs that name it.
class WeightPacker {
 public:
  // Finds the weights and reads none. The graphs must outlive it.
  explicit WeightPacker(std::span<Graph* const> graphs);

  size_t packed_bytes() const { return packed_bytes_; }
  size_t stored_bytes() const { return stored_bytes_; }    // what pack() reads
  size_t loading_bytes() const { return loading_bytes_; }  // of that in memory at once, at most

  // Reads the stored weights once, in the order in which they lie in their files, ahead of the work where the
  // system can. before_reading: see PackedMatrix. Throws OUT_OF_MEMORY.
  void pack(ThreadPool& pool, const PackedMatrix::BeforeReading& before_reading = {});

 private:
  struct Item {
    StoredWeights stored;
    std::shared_ptr<PackedMatrix> packed;
    std::string name;
    size_t offset = 0;  // in the one block of memory
  };
  std::vector<Item> items_;
  size_t packed_bytes_ = 0;
  size_t stored_bytes_ = 0;
  size_t loading_bytes_ = 0;
};

inline void pack_weights(std::span<Graph* const> graphs, ThreadPool& pool) {
  WeightPacker(graphs).pack(pool);
}

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_FUSED_PACK_WEIGHTS_H_
