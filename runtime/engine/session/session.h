// KV caches and positions of a model's batch slots, and the calls that move them on.
#ifndef MINDIR_LLM_SESSION_SESSION_H_
#define MINDIR_LLM_SESSION_SESSION_H_

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/plan.h"
#include "session/model.h"

namespace mllm {

struct Feed {
  int32_t slot = 0;
  std::span<const int32_t> tokens;
};

// Used by one thread at a time; sessions of one model may run in different threads.
class Session {
 public:
  explicit Session(const Model& model);  // which must outlive it

  // Append tokens to slots and compute the logits after each slot's last token. Checks everything before it
  // computes anything; on an error no position moves.
  void feed(std::span<const Feed> feeds);

  int32_t position(int32_t slot) const;
  void rewind(int32_t slot, int32_t position);
  const std::vector<float>& logits(int32_t slot) const;  // [vocab]

  // The slot's tokens as bytes, and back into a slot of a session of the same bundle; like rewind, restoring
  // leaves no logits.
  std::vector<uint8_t> save(int32_t slot) const;
  void restore(int32_t slot, std::span<const uint8_t> saved);

  // A feed that finds the flag set throws CANCELLED within a layer's time. It must outlive the session.
  void set_cancel_flag(const std::atomic<bool>* flag);

  void set_profiling(bool on);        // starts from zero
  const std::string& profile_json();  // valid until the next call

 private:
  struct Slot {
    int32_t position = 0;
    bool has_logits = false;
    std::vector<float> logits;
    std::vector<float> next_logits;  // computed by a feed that may still fail
  };
  // Tokens of one slot for one call.
  struct Piece {
    int32_t slot = 0;
    int32_t position = 0;
    std::span<const int32_t> tokens;
    bool wants_logits = false;  // the end of a feed
  };

  struct Runner {
    Runner(const ModelGraph& graph, const Model& model);
    const ModelGraph& graph;
    Plan plan;
    std::vector<Tensor> inputs;  // ids, positions, lengths, caches
  };

  void check(std::span<const Feed> feeds) const;
  const Slot& slot_at(int32_t slot) const;
  void run(Runner& runner, std::span<const Piece> pieces);
  void run_rows(Runner& runner, std::span<const Piece> pieces);
  void run_padded(Runner& runner, std::span<const Piece> pieces);
  void run_one_by_one(std::span<const Piece> pieces);
  void keep_logits(const Tensor& logits, int64_t row, int32_t slot);

  const Model& model_;
  Model::SessionShare share_;
  std::vector<Tensor> caches_;
  Runner prefill_;
  Runner decode_;
  std::vector<Slot> slots_;
  std::string profile_json_;
};

}  // namespace mllm

#endif  // MINDIR_LLM_SESSION_SESSION_H_
