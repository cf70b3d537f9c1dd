// The weights of a linear layer, rearranged once when a model is opened into the blocks that the kernels
// read.
#ifndef MINDIR_LLM_KERNELS_MATMUL_PACKED_MATRIX_H_
#define MINDIR_LLM_KERNELS_MATMUL_PACKED_MATRIX_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/tensor.h"
#include "base/thread_pool.h"
#include "kernels/matmul/matmul.h"

namespace mllm {

// Weights as a graph stores them.
struct StoredWeights {
  // [n, k] float32, float16 or int8; [k, n] int8 where group > 0; or [k, n/2] pairs of int4, the even column
  // in the low nibble: QInt4x2 in two's complement, UInt8 as q + 8.
  Tensor weight;
  // Integers only: float32 or float16, n elements, or [ceil(k/group), n] where group > 0.
  Tensor scale;
  int64_t group = 0;
  // What is subtracted from the integers, or added: as many as scales, int8, float32 or float16, whole
  // numbers within int8 after the sign is changed.
  std::optional<Tensor> zero{};
  bool zero_is_added = false;

  bool is_int4() const { return weight.dtype == DType::QInt4x2 || weight.dtype == DType::UInt8; }
  bool is_int8() const { return weight.dtype == DType::Int8; }
  bool is_by_input() const { return is_int4() || (is_int8() && group > 0); }
  int64_t columns() const { return is_by_input() ? weight.dims[1] * (is_int4() ? 2 : 1) : weight.dims[0]; }
  int64_t inputs() const { return is_by_input() ? weight.dims[0] : weight.dims[1]; }
};

class PackedMatrix {
 public:
  // Computes the layout and reads nothing; types must have been checked.
  explicit PackedMatrix(const StoredWeights& stored);

  const WeightView& view() const { return view_; }
  int64_t columns() const { return columns_; }
  int64_t panels() const { return (columns_ + kPanelColumns - 1) / kPanelColumns; }
  size_t bytes() const { return static_cast<size_t>(2 * panels() * view_.block_bytes); }
  bool is_integer() const { return view_.format == WeightFormat::Int8 || view_.format == WeightFormat::Int4; }
  // One factor per column, padded to whole panels; null where groups have scales, and for floats.
  const float* column_scale() const { return column_scale_.empty() ? nullptr : column_scale_.data(); }

  // Told about each part of the stored weights before it is read, by the thread that packs.
  using BeforeReading = std::function<void(std::span<const uint8_t>)>;
  // Fill `memory`, bytes() long, zeroed and aligned to 64, from the stored weights, which are read in parts
  // of about kPartBytes and in order. Pages of a mapped file that were read are given back after each part.
  // Throws FORMAT where a zero point is none.
  void pack(const StoredWeights& stored, std::shared_ptr<uint8_t> memory, ThreadPool& pool,
            const BeforeReading& before_reading = {});
  static constexpr int64_t kPartBytes = int64_t{4} << 20;
  // How much of a mapped file is in memory at once, at most, while these are packed.
  static size_t loading_bytes(const StoredWeights& stored);

 private:
  WeightView view_{};
  int64_t columns_ = 0;
  std::vector<float> column_scale_;
  std::shared_ptr<uint8_t> memory_;
};

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_MATMUL_PACKED_MATRIX_H_
