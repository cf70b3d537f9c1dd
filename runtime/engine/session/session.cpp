#include "session/session.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "base/sha256.h"
#include "session/saved_slot.h"

namespace mllm {
namespace {

constexpr size_t kIds = 0, kPositions = 1, kLengths = 2, kFirstCache = 3;

// The rows of some slots in caches that a graph is about to overwrite.
class SavedRows {
 public:
  // Rows 0 … count-1 of each KV head of the slots for which `is_idle` holds.
  SavedRows(std::span<const Tensor> caches, const std::vector<bool>& is_idle, int64_t count)
      : caches_(caches), is_idle_(is_idle), count_(count) {
    copy([this](uint8_t* row, size_t bytes) { saved_.insert(saved_.end(), row, row + bytes); });
  }
  void restore() {
    const uint8_t* from = saved_.data();
    copy([&from](uint8_t* row, size_t bytes) {
      std::memcpy(row, from, bytes);
      from += bytes;
    });
  }

 private:
  template <class F>
  void copy(const F& f) const {
    for (const Tensor& cache : caches_) {
      const size_t row = dtype_size(cache.dtype) * static_cast<size_t>(cache.dims[3]);
      const size_t head = row * static_cast<size_t>(cache.dims[2]);
      for (size_t b = 0; b < is_idle_.size(); ++b) {
        if (!is_idle_[b]) continue;
        for (size_t h = 0; h < static_cast<size_t>(cache.dims[1]); ++h) {
          f(cache.as<uint8_t>() + (b * static_cast<size_t>(cache.dims[1]) + h) * head,
            row * static_cast<size_t>(count_));
        }
      }
    }
  }

  std::span<const Tensor> caches_;
  const std::vector<bool>& is_idle_;
  int64_t count_;
  std::vector<uint8_t> saved_;
};

// What is saved belongs to one bundle: its manifest lists the digests of all other files.
std::string bundle_id(const Model& model) {
  const std::string& text = model.manifest().text;
  return sha256_hex({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

}  // namespace

Session::Runner::Runner(const ModelGraph& g, const Model& model)
    : graph(g), plan(g.graph, model.pool(), model.is_exact()) {
  for (const ValueId v : plan.graph().inputs) {
    const TensorType& type = plan.graph().value(v).type;
    if (inputs.size() < kFirstCache) inputs.push_back(allocate(type.dtype, type.dims));
  }
}

Session::Session(const Model& model)
    : model_(model), share_(model), prefill_(model.prefill(), model), decode_(model.decode(), model) {
  const Manifest& m = model.manifest();
  // One block, so that caches that do not fit into memory are refused as a whole.
  const auto padded = [&](size_t i) {
    const TensorType type = m.cache_type(i);
    return (nbytes(type.dtype, type.dims) + 63) / 64 * 64;
  };
  size_t layer_bytes = 0;
  for (size_t i = 0; i < m.caches_per_layer(); ++i) layer_bytes += padded(i);
  const Tensor block =
      allocate(DType::UInt8, {m.num_layers, static_cast<int64_t>(layer_bytes)}, Memory::Cache);
  uint8_t* at = block.as<uint8_t>();
  for (size_t i = 0; i < m.cache_count(); ++i) {
    const TensorType type = m.cache_type(i);
    caches_.push_back({type.dtype, type.dims, at, block.owner});
    at += padded(i);
  }
  for (Runner* runner : {&prefill_, &decode_}) {
    runner->inputs.insert(runner->inputs.end(), caches_.begin(), caches_.end());
  }
  slots_.resize(static_cast<size_t>(m.batch_size));
}

const Session::Slot& Session::slot_at(int32_t slot) const {
  if (slot < 0 || static_cast<size_t>(slot) >= slots_.size()) {
    fail_argument("slot " + std::to_string(slot) + " is outside of 0 … " + std::to_string(slots_.size() - 1));
  }
  return slots_[static_cast<size_t>(slot)];
}

int32_t Session::position(int32_t slot) const {
  return slot_at(slot).position;
}

void Session::rewind(int32_t slot, int32_t position) {
  const int32_t current = slot_at(slot).position;
  if (position < 0 || position > current) {
    fail_argument("cannot rewind slot " + std::to_string(slot) + " to position " + std::to_string(position) +
                  ": it is at " + std::to_string(current));
  }
  Slot& s = slots_[static_cast<size_t>(slot)];
  s.position = position;
  s.has_logits = false;
}

const std::vector<float>& Session::logits(int32_t slot) const {
  const Slot& s = slot_at(slot);
  if (!s.has_logits) fail_argument("slot " + std::to_string(slot) + " has no logits: feed it tokens first");
  return s.logits;
}

std::vector<uint8_t> Session::save(int32_t slot) const {
  return save_slot(bundle_id(model_), caches_, slot, slot_at(slot).position);
}

void Session::restore(int32_t slot, std::span<const uint8_t> saved) {
  slot_at(slot);
  Slot& s = slots_[static_cast<size_t>(slot)];
  s.position = restore_slot(bundle_id(model_), caches_, slot, model_.manifest().max_seq_len, saved);
  s.has_logits = false;
}

void Session::set_cancel_flag(const std::atomic<bool>* flag) {
  prefill_.plan.set_cancel_flag(flag);
  decode_.plan.set_cancel_flag(flag);
}

void Session::set_profiling(bool on) {
  prefill_.plan.set_profiling(on);
  decode_.plan.set_profiling(on);
}

const std::string& Session::profile_json() {
  profile_json_ = "{";
  for (const Runner* runner : {&prefill_, &decode_}) {
    profile_json_ += runner == &prefill_ ? "\"prefill\": [" : "], \"decode\": [";
    const Graph& graph = runner->plan.graph();
    const auto& times = runner->plan.profile();
    for (size_t i = 0; i < times.size(); ++i) {
      const Node& node = graph.nodes[i];
      // Products are known by their weights.
      std::string name;
      for (const ValueId v : node.inputs) {
        const Value& value = graph.value(v);
        if (value.packed) name += (name.empty() ? "" : "+") + value.name;
      }
      profile_json_ += std::string(i ? ", " : "") + "{\"operator\": " + json_quoted(node.op) +
                       ", \"name\": " + json_quoted(name.empty() ? node.name : name) +
                       ", \"calls\": " + std::to_string(times[i].calls) +
                       ", \"seconds\": " + std::to_string(static_cast<double>(times[i].nanoseconds) * 1e-9) +
                       "}";
    }
  }
  return profile_json_ += "]}";
}

void Session::check(std::span<const Feed> feeds) const {
  const Manifest& m = model_.manifest();
  if (feeds.empty()) fail_argument("feed: no segments");
  std::vector<bool> seen(slots_.size(), false);
  for (const Feed& feed : feeds) {
    const Slot& s = slot_at(feed.slot);
    const std::string slot = "slot " + std::to_string(feed.slot);
    if (seen[static_cast<size_t>(feed.slot)]) fail_argument("feed: " + slot + " occurs twice");
    seen[static_cast<size_t>(feed.slot)] = true;
    if (feed.tokens.empty()) fail_argument("feed: " + slot + ": no tokens");
    for (const int32_t token : feed.tokens) {
      if (token < 0 || token >= m.vocab_size) {
        fail_argument("feed: " + slot + ": token id " + std::to_string(token) +
                      " is outside of the vocabulary of " + std::to_string(m.vocab_size));
      }
    }
    if (feed.tokens.size() > static_cast<size_t>(m.max_seq_len - s.position)) {
      throw Error(MLLM_ERROR_CAPACITY, slot + ": " + std::to_string(s.position) + " tokens and " +
                                           std::to_string(feed.tokens.size()) +
                                           " more do not fit: " + model_.context_text() +
                                           "; shorten the prompt or " + model_.longer_context());
    }
  }
}

void Session::feed(std::span<const Feed> feeds) {
  check(feeds);
  const auto chunk = static_cast<size_t>(model_.manifest().prefill_chunk);
  std::vector<size_t> done(feeds.size(), 0);
  // Prefill until every slot has at most one token left; then those run together through the decode graph.
  const auto take = [&](size_t least) {
    std::vector<Piece> pieces;
    for (size_t i = 0; i < feeds.size(); ++i) {
      const size_t left = feeds[i].tokens.size() - done[i];
      if (left < least || left == 0) continue;
      const size_t n = std::min(left, chunk);
      const int32_t position =
          slots_[static_cast<size_t>(feeds[i].slot)].position + static_cast<int32_t>(done[i]);
      pieces.push_back({feeds[i].slot, position, feeds[i].tokens.subspan(done[i], n), n == left});
      done[i] += n;
    }
    return pieces;
  };
  for (auto pieces = take(2); !pieces.empty(); pieces = take(2)) run(prefill_, pieces);
  if (const auto pieces = take(1); !pieces.empty()) run(decode_, pieces);
  for (const Feed& feed : feeds) {
    Slot& s = slots_[static_cast<size_t>(feed.slot)];
    s.position += static_cast<int32_t>(feed.tokens.size());
    s.logits.swap(s.next_logits);
    s.has_logits = true;
  }
}

void Session::run(Runner& runner, std::span<const Piece> pieces) {
  if (runner.graph.is_fused) return run_rows(runner, pieces);
  // A graph that writes its caches in place writes all its T rows, so they must fit.
  std::vector<Piece> fitting, overhanging;
  for (const Piece& piece : pieces) {
    const bool fits = piece.position + runner.graph.tokens <= model_.manifest().max_seq_len;
    (fits || !runner.graph.in_place ? fitting : overhanging).push_back(piece);
  }
  if (!fitting.empty()) run_padded(runner, fitting);
  if (!overhanging.empty()) run_one_by_one(overhanging);
}

void Session::run_one_by_one(std::span<const Piece> pieces) {
  for (const Piece& piece : pieces) {
    for (size_t i = 0; i < piece.tokens.size(); ++i) {
      const bool is_end = i + 1 == piece.tokens.size();
      const Piece one{piece.slot, piece.position + static_cast<int32_t>(i), piece.tokens.subspan(i, 1),
                      is_end && piece.wants_logits};
      run(decode_, {&one, 1});
    }
  }
}

void Session::keep_logits(const Tensor& logits, int64_t row, int32_t slot) {
  const int64_t vocab = model_.manifest().vocab_size;
  const float* from = logits.as<const float>() + row * vocab;
  slots_[static_cast<size_t>(slot)].next_logits.assign(from, from + vocab);
}

// A fused plan: the tokens of all pieces one after another, nothing else is computed.
void Session::run_rows(Runner& runner, std::span<const Piece> pieces) {
  auto* ids = runner.inputs[kIds].as<int32_t>();
  std::vector<Segment> segments;
  int32_t rows = 0;
  for (const Piece& piece : pieces) {
    const auto n = static_cast<int32_t>(piece.tokens.size());
    segments.push_back({piece.slot, piece.position, n, rows, piece.wants_logits});
    std::ranges::copy(piece.tokens, ids + rows);
    rows += n;
  }
  const std::vector<Tensor> outputs = runner.plan.run(runner.inputs, segments);
  int64_t row = 0;  // logits are in segment order
  for (const Piece& piece : pieces) {
    if (piece.wants_logits) keep_logits(outputs[0], row++, piece.slot);
  }
}

// A graph as it was written: T tokens of every slot, padded. Slots without a piece get token 0 at position 0,
// and their caches are left as they were.
void Session::run_padded(Runner& runner, std::span<const Piece> pieces) {
  const int32_t tokens = runner.graph.tokens;
  auto* ids = runner.inputs[kIds].as<int32_t>();
  auto* positions = runner.inputs[kPositions].as<int32_t>();
  auto* lengths = runner.inputs[kLengths].as<int32_t>();
  std::vector<bool> is_idle(slots_.size(), true);
  std::fill_n(ids, slots_.size() * static_cast<size_t>(tokens), 0);
  std::fill_n(positions, slots_.size(), 0);
  std::fill_n(lengths, slots_.size(), 1);
  for (const Piece& piece : pieces) {
    const auto slot = static_cast<size_t>(piece.slot);
    is_idle[slot] = false;
    std::ranges::copy(piece.tokens, ids + slot * static_cast<size_t>(tokens));
    positions[slot] = piece.position;
    lengths[slot] = piece.position + static_cast<int32_t>(piece.tokens.size());
  }
  if (runner.graph.in_place) {
    SavedRows saved(caches_, is_idle, tokens);
    std::vector<Tensor> outputs;
    try {
      outputs = runner.plan.run(runner.inputs);
    } catch (...) {  // cancelled
      saved.restore();
      throw;
    }
    saved.restore();
    for (const Piece& piece : pieces) keep_logits(outputs[0], piece.slot, piece.slot);
    return;
  }
  const std::vector<Tensor> outputs = runner.plan.run(runner.inputs);
  for (size_t i = 0; i < caches_.size(); ++i) {
    const size_t slot_bytes = caches_[i].bytes() / slots_.size();
    for (const Piece& piece : pieces) {
      const size_t at = static_cast<size_t>(piece.slot) * slot_bytes;
      std::memcpy(caches_[i].as<uint8_t>() + at, outputs[i + 1].as<const uint8_t>() + at, slot_bytes);
    }
  }
  for (const Piece& piece : pieces) keep_logits(outputs[0], piece.slot, piece.slot);
}

}  // namespace mllm
