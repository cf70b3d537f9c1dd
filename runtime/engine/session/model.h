// A bundle opened for running: its two graphs over one set of mapped weights.
#ifndef MINDIR_LLM_SESSION_MODEL_H_
#define MINDIR_LLM_SESSION_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "graph/ir.h"
#include "session/manifest.h"

namespace mllm {

struct ModelOptions {
  int threads = 0;  // <= 0: one per physical core
  bool verify_weights = false;
  bool exact = false;  // keep activations float32 in products with quantized weights
  bool fuse = true;    // false: run the graphs as written, for comparing
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

  const Manifest& manifest() const { return manifest_; }
  const ModelGraph& prefill() const { return prefill_; }
  const ModelGraph& decode() const { return decode_; }
  bool is_exact() const { return exact_; }
  bool is_fused() const { return prefill_.is_fused && decode_.is_fused; }
  ThreadPool& pool() const { return pool_; }
  size_t weight_bytes() const { return weight_bytes_; }
  size_t kv_cache_bytes() const;  // of one session

 private:
  Model(Manifest manifest, int threads) : manifest_(std::move(manifest)), pool_(threads) {}

  Manifest manifest_;
  ModelGraph prefill_;
  ModelGraph decode_;
  mutable ThreadPool pool_;
  size_t weight_bytes_ = 0;
  bool exact_ = false;
};

}  // namespace mllm

#endif  // MINDIR_LLM_SESSION_MODEL_H_
