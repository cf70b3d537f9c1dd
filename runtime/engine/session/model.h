// A bundle opened for running: its two graphs over one set of mapped weights.
#ifndef MINDIR_LLM_SESSION_MODEL_H_
#define MINDIR_LLM_SESSION_MODEL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/placement.h"
#include "base/thread_pool.h"
#include "graph/ir.h"
#include "session/manifest.h"
#include "session/memory_plan.h"

namespace mllm {

class WeightPacker;

struct ModelOptions {
  int threads = 0;  // <= 0: default_threads()
  bool verify_weights = false;
  bool exact = false;                    // keep activations float32 in products with quantized weights
  bool fuse = true;                      // false: run the graphs as written, for comparing
  uint64_t max_memory = 0;               // of the process with one session; 0: no limit
  std::string cores = {};                // for the calling thread and the pool; "": as they are
  Priority priority = Priority::Normal;  // likewise
  bool tokens_only = false;              // the text of this model is somebody else's job
  // Bytes of weights that have been read, and of all; called by the thread that opens the model.
  std::function<void(uint64_t, uint64_t)> on_progress = {};
};

// One graph of the bundle as sessions run it.
struct ModelGraph {
  Graph graph;
  int32_t tokens = 0;     // T: the chunk, or 1
  bool is_fused = false;  // runs any rows; otherwise padded calls of all slots
  bool in_place = false;  // the graph writes into the caches it is given
};

// Immutable once open; sessions in several threads share it.
class Model {
 public:
  // Any problem of the bundle is an Error naming file and field or node.
  static std::unique_ptr<Model> open(const std::string& bundle, const ModelOptions& options);

  // Where a limit of memory asks for it, max_seq_len and prefill_chunk are less than in the bundle.
  const Manifest& manifest() const { return manifest_; }
  struct Memory {
    uint64_t limit = 0;  // 0: none, and then nothing else is known
    MemoryNeeds needs = {};
    MemoryPlan plan = {};
    std::string text = {};  // the plan in one line
  };
  const Memory& memory() const { return memory_; }
  bool is_shortened() const { return memory_.limit != 0 && memory_.plan.context < memory_.needs.context; }
  // What the context is bound by, for errors, and what can be done about it.
  std::string context_text() const;
  std::string longer_context() const;
  const ModelGraph& prefill() const { return prefill_; }
  const ModelGraph& decode() const { return decode_; }
  bool is_exact() const { return exact_; }
  bool is_fused() const { return prefill_.is_fused && decode_.is_fused; }
  ThreadPool& pool() const { return pool_; }
  size_t weight_bytes() const { return weight_bytes_; }
  size_t kv_cache_bytes() const;  // of one session

  // The memory of a session, out of what the limit leaves. Throws OUT_OF_MEMORY where that is too little.
  class SessionShare {
   public:
    explicit SessionShare(const Model& model);
    ~SessionShare() { model_.sessions_.fetch_sub(1); }
    SessionShare(const SessionShare&) = delete;
    SessionShare& operator=(const SessionShare&) = delete;

   private:
    const Model& model_;
  };

 private:
  Model(Manifest manifest, int threads) : manifest_(std::move(manifest)), pool_(threads) {}
  void fit_into(const std::string& bundle, uint64_t limit, const WeightPacker& packer);

  Manifest manifest_;
  ModelGraph prefill_;
  ModelGraph decode_;
  mutable ThreadPool pool_;
  size_t weight_bytes_ = 0;
  bool exact_ = false;
  Memory memory_;
  mutable std::atomic<uint64_t> sessions_{0};
};

}  // namespace mllm

#endif  // MINDIR_LLM_SESSION_MODEL_H_
