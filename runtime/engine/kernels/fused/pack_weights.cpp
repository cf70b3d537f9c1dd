#include "kernels/fused/pack_weights.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "base/error.h"
#include "base/file.h"
#include "base/huge_memory.h"
#include "graph/operator.h"
#include "kernels/fused/linear_operands.h"

namespace mllm {
namespace {

using Range = std::span<const uint8_t>;

Range range_of(const Tensor& tensor) {
  return {tensor.as<const uint8_t>(), tensor.bytes()};
}

// What packing reads of a matrix.
std::vector<Range> ranges_of(const StoredWeights& stored) {
  std::vector<Range> out{range_of(stored.weight)};
  if (stored.scale.data) out.push_back(range_of(stored.scale));
  if (stored.zero) out.push_back(range_of(*stored.zero));
  return out;
}

// Keeps the disk busy while weights are packed: the system is asked for some megabytes more than have been
// read.
class ReadAhead {
 public:
  explicit ReadAhead(std::vector<Range> ranges) : ranges_(std::move(ranges)) { go_to(kAhead); }
  void consumed(size_t bytes) { go_to(consumed_ += bytes); }

 private:
  static constexpr size_t kAhead = size_t{2} * PackedMatrix::kPartBytes;

  void go_to(size_t position) {
    const size_t goal = position + kAhead;
    while (next_ < ranges_.size() && asked_ < goal) {
      Range& range = ranges_[next_];
      const size_t bytes = std::min(range.size(), goal - asked_);
      MappedFile::read_ahead(range.data(), bytes);
      asked_ += bytes;
      range = range.subspan(bytes);
      if (range.empty()) ++next_;
    }
  }

  std::vector<Range> ranges_;  // in order
  size_t next_ = 0;
  size_t asked_ = 0;
  size_t consumed_ = 0;
};

}  // namespace

WeightPacker::WeightPacker(std::span<Graph* const> graphs) {
  // By all that makes a packed matrix. Prefill and decode name the same data; nothing else should.
  using Key = std::tuple<const void*, const void*, const void*, DType, Dims, DType, int64_t, bool>;
  std::map<Key, size_t> known;
  for (Graph* graph : graphs) {
    for (const Node& node : graph->nodes) {
      if (node.op != "fused.Linear") continue;
      const OpArgs args(*graph, node);
      const fused::LinearOperands operands(args);
      for (size_t i = 0; i < operands.count(); ++i) {
        StoredWeights stored = operands.stored(i);
        const Key key{stored.weight.data,  stored.scale.data,   stored.zero ? stored.zero->data : nullptr,
                      stored.weight.dtype, stored.weight.dims,  stored.scale.dtype,
                      stored.group,        stored.zero_is_added};
        const auto [it, is_new] = known.try_emplace(key, items_.size());
        Value& weight = graph->value(node.inputs[fused::LinearOperands::weight(i)]);
        if (is_new) {
          items_.push_back({stored, std::make_shared<PackedMatrix>(stored), weight.name, packed_bytes_});
          packed_bytes_ += items_.back().packed->bytes();
          for (const Range& range : ranges_of(stored)) stored_bytes_ += range.size();
          loading_bytes_ = std::max(loading_bytes_, PackedMatrix::loading_bytes(stored));
        }
        if (weight.packed && weight.packed != items_[it->second].packed) {
          fail_format(weight.name + ": one weight with two scales, groups or zero points; store it twice");
        }
        weight.packed = items_[it->second].packed;
      }
    }
  }
}

void WeightPacker::pack(ThreadPool& pool, const PackedMatrix::BeforeReading& before_reading) {
  // One block for all: few, full huge pages. Blocks are multiples of 64 bytes.
  const std::shared_ptr<uint8_t> memory = allocate_huge(packed_bytes_, Memory::Weights);
  std::ranges::sort(items_, {}, [](const Item& item) { return item.stored.weight.data; });
  std::vector<Range> ranges;
  for (const Item& item : items_) std::ranges::copy(ranges_of(item.stored), std::back_inserter(ranges));
  std::ranges::sort(ranges, {}, &Range::data);
  ReadAhead ahead(std::move(ranges));
  for (Item& item : items_) {
    try {
      item.packed->pack(item.stored, {memory, memory.get() + item.offset}, pool, [&](Range part) {
        ahead.consumed(part.size());
        if (before_reading) before_reading(part);
      });
    } catch (const Error& e) {
      throw Error(e.status(), item.name + ": " + e.what());
    }
  }
}

}  // namespace mllm
