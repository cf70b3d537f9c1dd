#include "kernels/matmul/packed_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/half.h"
#include "base/processor.h"

namespace mllm {
namespace {

// Of weights that a step of decode's kernels takes, and asks for as many.
constexpr int64_t kAtOnce = 256;

int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

float scale_at(const Tensor& scale, int64_t i) {
  return scale.dtype == DType::Float16 ? half_to_float(scale.as<const uint16_t>()[i])
                                       : scale.as<const float>()[i];
}

// Rows n0 … n0+15 of [n, k] elements as [k][16]; rows past n are zero (memory is zero to begin with).
template <class T>
void pack_floats(const Tensor& weight, int64_t n0, uint8_t* block) {
  const int64_t k = weight.dims[1];
  auto* out = reinterpret_cast<T*>(block);
  for (int64_t c = 0; c < std::min(kBlockColumns, weight.dims[0] - n0); ++c) {
    const T* row = weight.as<const T>() + (n0 + c) * k;
    for (int64_t i = 0; i < k; ++i) out[i * kBlockColumns + c] = row[i];
  }
}

typedef uint32_t Words __attribute__((vector_size(16)));

// Rows n0 … n0+15, inputs k0 … k0+size-1, those past the weight's own as zeros.
void pack_int8(const Tensor& weight, int64_t n0, int64_t k0, int64_t size, uint8_t* to_block) {
  const int64_t k = weight.dims[1];
  const int64_t rows = std::min(kBlockColumns, weight.dims[0] - n0);
  const int64_t count = std::min(size, k - k0);
  const auto* source = weight.as<const uint8_t>() + n0 * k + k0;
  int64_t done = 0;
  if (rows == kBlockColumns) {
    // Four rows by four words at a time, transposed.
    const Words flip = {0x80808080u, 0x80808080u, 0x80808080u, 0x80808080u};
    for (; done + 16 <= count; done += 16) {
      uint8_t* to = to_block + done * kBlockColumns;
      for (int64_t c = 0; c < kBlockColumns; c += 4, to += 16) {
        Words r[4];
        for (int64_t j = 0; j < 4; ++j) {
          std::memcpy(&r[j], source + (c + j) * k + done, 16);
          r[j] ^= flip;
        }
        const Words a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
        const Words b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
        const Words c2 = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
        const Words d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
        const Words out[4] = {
            __builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
            __builtin_shufflevector(c2, d, 0, 1, 4, 5), __builtin_shufflevector(c2, d, 2, 3, 6, 7)};
        for (int64_t j = 0; j < 4; ++j) std::memcpy(to + 64 * j, &out[j], 16);
      }
    }
  }
  std::memset(to_block + done * kBlockColumns, 128, static_cast<size_t>((size - done) * kBlockColumns));
  for (int64_t c = 0; c < rows; ++c) {
    for (int64_t i = done; i < count; ++i) {
      to_block[i / 4 * 64 + 4 * c + i % 4] = source[c * k + i] ^ 0x80;
    }
  }
}

typedef uint8_t Bytes __attribute__((vector_size(16)));
typedef uint16_t Pairs __attribute__((vector_size(16)));

// Interleaving of whole elements is one instruction everywhere; compilers do not find it in shuffles of
// parts.
inline Bytes interleave_low(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline Bytes interleave_high(Bytes a, Bytes b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
inline Pairs interleave_low(Pairs a, Pairs b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
inline Pairs interleave_high(Pairs a, Pairs b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}

// 4 x 16 bytes, transposed.
inline void store_transposed(const Bytes r[4], uint8_t* to) {
  const auto a = reinterpret_cast<Pairs>(interleave_low(r[0], r[1]));
  const auto b = reinterpret_cast<Pairs>(interleave_low(r[2], r[3]));
  const auto c = reinterpret_cast<Pairs>(interleave_high(r[0], r[1]));
  const auto d = reinterpret_cast<Pairs>(interleave_high(r[2], r[3]));
  const auto store = [&](int64_t at, Pairs v) { std::memcpy(to + at, &v, 16); };
  store(0, interleave_low(a, b));
  store(16, interleave_high(a, b));
  store(32, interleave_low(c, d));
  store(48, interleave_high(c, d));
}

// 16 columns of two inputs, a nibble each, as stored: the even column of a pair in the low nibble.
typedef uint64_t TwoInputs __attribute__((vector_size(16)));

// The nibbles of inputs a, and those of inputs b above them, one byte a column: `to` gets both inputs.
// Scalars that go to vectors through memory would make the processor wait.
inline void join(TwoInputs a, TwoInputs b, Bytes to[2]) {
  const TwoInputs low = TwoInputs{} + 0x0f0f0f0f0f0f0f0full;
  const auto even = reinterpret_cast<Bytes>((a & low) | (b & low) << 4);
  const auto odd = reinterpret_cast<Bytes>((a >> 4 & low) | (b & ~low));
  to[0] = interleave_low(even, odd);
  to[1] = interleave_high(even, odd);
}

// Columns n0 … n0+15 of inputs k0 … k0+31: 256 bytes. `flip` turns the stored nibbles into q + 8.
void pack_int4_run(const Tensor& weight, uint64_t flip, int64_t n0, int64_t k0, uint8_t* to) {
  const int64_t row_bytes = weight.dims[1];
  const auto* source = weight.as<const uint8_t>() + k0 * row_bytes + n0 / 2;
  // Rows and columns past the end are zero, 8 as q + 8.
  uint8_t padded[32 * 8];
  int64_t stride = row_bytes;
  if (const int64_t left = row_bytes - n0 / 2; left < 8 || k0 + 32 > weight.dims[0]) {
    std::memset(padded, flip ? 0 : 0x88, sizeof padded);
    for (int64_t i = 0; i < std::min<int64_t>(32, weight.dims[0] - k0); ++i) {
      if (left > 0)
        std::memcpy(padded + 8 * i, source + i * row_bytes, static_cast<size_t>(std::min<int64_t>(8, left)));
    }
    source = padded;
    stride = 8;
  }
  const auto inputs = [&](int64_t i) -> TwoInputs {
    uint64_t first, second;
    std::memcpy(&first, source + i * stride, 8);
    std::memcpy(&second, source + (i + 1) * stride, 8);
    return TwoInputs{first, second} ^ flip;
  };
  for (int64_t i = 0; i < 16; i += 4, to += 64) {
    Bytes r[4];
    join(inputs(i), inputs(16 + i), r);
    join(inputs(i + 2), inputs(18 + i), r + 2);
    store_transposed(r, to);
  }
}

// Columns n0 … n0+15 of inputs k0 … k0+31 of int8 [k, n]: 512 bytes.
void pack_int8_run(const Tensor& weight, int64_t n0, int64_t k0, uint8_t* to) {
  const int64_t n = weight.dims[1];
  const auto* source = weight.as<const uint8_t>() + k0 * n + n0;
  const int64_t columns = std::max<int64_t>(0, std::min(kBlockColumns, n - n0));
  for (int64_t i = 0; i < 32; i += 4, to += 64) {
    Bytes r[4];
    for (int64_t j = 0; j < 4; ++j) {
      Bytes row{};
      if (columns == kBlockColumns && k0 + 32 <= weight.dims[0]) {
        std::memcpy(&row, source + (i + j) * n, kBlockColumns);  // a size that the compiler knows: no call
      } else if (columns > 0 && k0 + i + j < weight.dims[0]) {
        std::memcpy(&row, source + (i + j) * n, static_cast<size_t>(columns));
      }
      r[j] = row ^ static_cast<uint8_t>(0x80);
    }
    store_transposed(r, to);
  }
}

int8_t zero_at(const StoredWeights& stored, int64_t i) {
  const Tensor& zero = *stored.zero;
  const float value =
      zero.dtype == DType::Int8 ? static_cast<float>(zero.as<const int8_t>()[i]) : scale_at(zero, i);
  const float subtracted = stored.zero_is_added ? -value : value;
  if (!(subtracted >= -128.0f && subtracted <= 127.0f) || subtracted != std::nearbyint(subtracted)) {
    fail_format("zero point " + std::to_string(value) + " of output " + std::to_string(i % stored.columns()) +
                " is no whole number within int8");
  }
  return static_cast<int8_t>(subtracted);
}

int64_t scale_bytes(const WeightView& v) {
  return v.group_scale == GroupScale::None ? 0
                                           : kBlockColumns * (v.group_scale == GroupScale::Float16 ? 2 : 4);
}

// Bytes after the inputs of a group.
int64_t trailer_bytes(const WeightView& v) {
  return scale_bytes(v) + (v.has_zeros ? kBlockColumns : 0);
}

// Scales and zero points of group g, columns n0 … n0+15.
void pack_trailer(const StoredWeights& stored, const WeightView& v, int64_t g, int64_t n0, uint8_t* to) {
  const int64_t n = stored.columns();
  if (g * v.group >= v.k) return;  // padding: zero
  const int64_t first = (stored.group > 0 ? g * n : 0) + n0;
  const int64_t columns = std::min(kBlockColumns, n - n0);
  if (columns <= 0) return;
  const int64_t skip = scale_bytes(v), size = skip / kBlockColumns;  // of a scale
  if (skip > 0) {
    std::memcpy(to, stored.scale.as<const uint8_t>() + first * size, static_cast<size_t>(columns * size));
  }
  if (!v.has_zeros) return;
  for (int64_t c = 0; c < columns; ++c) to[skip + c] = static_cast<uint8_t>(zero_at(stored, first + c));
}

}  // namespace

PackedMatrix::PackedMatrix(const StoredWeights& stored) : columns_(stored.columns()) {
  const int64_t k = stored.inputs();
  WeightView& v = view_;
  v.k = v.k_padded = k;
  v.span = v.group = kSpan;
  v.ahead = recognizes_streams() ? -kAtOnce : kReadAheadBytes;
  switch (stored.weight.dtype) {
    case DType::Float32:
      v.format = WeightFormat::Float32;
      v.block_bytes = k * kBlockColumns * 4;
      break;
    case DType::Float16:
      v.format = WeightFormat::Float16;
      v.block_bytes = k * kBlockColumns * 2;
      break;
    default:
      v.format = stored.is_int8() ? WeightFormat::Int8 : WeightFormat::Int4;
      v.k_padded = round_up(k, 64);
      v.block_bytes = v.k_padded * kBlockColumns / (stored.is_int8() ? 1 : 2);
      v.has_zeros = stored.zero.has_value();
      if (stored.group > 0) {
        v.group_scale = stored.scale.dtype == DType::Float16 ? GroupScale::Float16 : GroupScale::Float32;
      }
      // Zero points of columns stand with every group, so that kernels need not tell them from those of
      // groups.
      if (stored.group > 0 || v.has_zeros) {
        v.group = stored.group > 0 ? stored.group : kGroupedSpan;
        v.span = kGroupedSpan;
      }
      break;
  }
  v.groups = (v.k_padded + v.group - 1) / v.group;
  v.spans = (v.k_padded + v.span - 1) / v.span;
  v.block_bytes += v.groups * trailer_bytes(v);
  if (is_integer() && v.group_scale == GroupScale::None) {
    column_scale_.resize(static_cast<size_t>(panels() * kPanelColumns));
  }
}

namespace {

size_t row_bytes_of(const Tensor& weight) {
  return dtype_size(weight.dtype) * static_cast<size_t>(weight.dims[1]);
}

// Rows of [k, n] that are read at once: whole groups.
int64_t rows_per_part(const Tensor& weight) {
  constexpr int64_t kUnit = kGroupedSpan;
  const auto row_bytes = static_cast<int64_t>(row_bytes_of(weight));
  return std::max(kUnit, PackedMatrix::kPartBytes / row_bytes / kUnit * kUnit);
}

// The same of [n, k], in panels.
int64_t panels_per_part(const Tensor& weight) {
  const auto row_bytes = static_cast<int64_t>(row_bytes_of(weight));
  return std::max<int64_t>(1, PackedMatrix::kPartBytes / (kPanelColumns * row_bytes));
}

}  // namespace

size_t PackedMatrix::loading_bytes(const StoredWeights& stored) {
  const Tensor& weight = stored.weight;
  const int64_t rows = stored.is_by_input() ? rows_per_part(weight) : panels_per_part(weight) * kPanelColumns;
  const size_t part = static_cast<size_t>(std::min(rows, weight.dims[0])) * row_bytes_of(weight);
  return part + (stored.scale.dims.empty() ? 0 : stored.scale.bytes()) +
         (stored.zero ? stored.zero->bytes() : 0);
}

void PackedMatrix::pack(const StoredWeights& stored, std::shared_ptr<uint8_t> memory, ThreadPool& pool,
                        const BeforeReading& before_reading) {
  memory_ = std::move(memory);
  view_.blocks = memory_.get();
  const WeightView& v = view_;
  uint8_t* out = memory_.get();
  const Tensor& weight = stored.weight;
  const auto* source = weight.as<const uint8_t>();
  const auto row_bytes = static_cast<int64_t>(row_bytes_of(weight));
  const int64_t trailer = trailer_bytes(v);
  const auto announce = [&](const uint8_t* data, size_t bytes) -> MappedFile::Reading {
    if (bytes > 0 && before_reading) before_reading({data, bytes});
    return {data, bytes};
  };
  const auto scales = announce(stored.scale.as<const uint8_t>(), is_integer() ? stored.scale.bytes() : 0);
  const auto zeros = announce(v.has_zeros ? stored.zero->as<const uint8_t>() : nullptr,
                              v.has_zeros ? stored.zero->bytes() : 0);
  if (column_scale()) {
    for (int64_t i = 0; i < columns_; ++i) column_scale_[static_cast<size_t>(i)] = scale_at(stored.scale, i);
  }
  if (!stored.is_by_input()) {
    // Pieces of a few hundred kilobytes: the pages of a piece are read ahead together.
    const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 18) / (kPanelColumns * row_bytes));
    const auto pack_panels = [&](int64_t begin, int64_t end) {
      const int64_t first = std::min(begin * kPanelColumns, columns_) * row_bytes;
      const int64_t last = std::min(end * kPanelColumns, columns_) * row_bytes;
      const MappedFile::Reading reading(source + first, static_cast<size_t>(last - first));
      for (int64_t b = 2 * begin; b < 2 * end; ++b) {
        uint8_t* block = out + b * v.block_bytes;
        const int64_t n0 = b * kBlockColumns;
        if (v.format == WeightFormat::Float16) {
          pack_floats<uint16_t>(weight, n0, block);
        } else if (v.format == WeightFormat::Float32) {
          pack_floats<float>(weight, n0, block);
        } else if (trailer == 0) {
          pack_int8(weight, n0, 0, v.k_padded, block);
        } else {
          for (int64_t g = 0; g < v.groups; ++g) {
            const int64_t size = std::min(v.group, v.k_padded - g * v.group);
            pack_int8(weight, n0, g * v.group, size, block);
            block += size * kBlockColumns;
            pack_trailer(stored, v, g, n0, block);
            block += trailer;
          }
        }
      }
    };
    const int64_t step = panels_per_part(weight);
    for (int64_t p = 0; p < panels(); p += step) {
      const int64_t first = p * kPanelColumns * row_bytes;
      const int64_t last = std::min((p + step) * kPanelColumns, columns_) * row_bytes;
      if (before_reading) before_reading({source + first, static_cast<size_t>(last - first)});
      pool.parallel_for(std::min(step, panels() - p), grain,
                        [&](int64_t begin, int64_t end) { pack_panels(p + begin, p + end); });
      // Reading a piece brings pages in around it, which may be those of a piece that is done.
      MappedFile::release(source + first, static_cast<size_t>(last - first));
    }
    return;
  }
  // Runs of 32 inputs in the outer loop, so that a piece of an input's row (four panels of int4 are one cache
  // line of it) serves all of its blocks while it is in the first-level cache. Each row is another page,
  // hence wide pieces.
  constexpr int64_t kPiecePanels = 8;
  const uint64_t flip = weight.dtype == DType::QInt4x2 ? 0x8888888888888888ull : 0;
  const bool is_int4 = stored.is_int4();
  const int64_t panel_bytes = is_int4 ? kPanelColumns / 2 : kPanelColumns;
  const int64_t run_bytes = is_int4 ? 256 : 512;
  const auto pack_inputs = [&](int64_t begin, int64_t end, int64_t k0, int64_t k1) {
    int64_t at = k0 / 32 * run_bytes + (trailer ? k0 / v.group * trailer : 0);  // within a block
    for (int64_t k = k0; k < k1; k += 32, at += run_bytes) {
      const int64_t next = std::min<int64_t>(32, std::min(k1, weight.dims[0]) - k - 32);
      for (int64_t i = 0; i < next; ++i) {
        for (int64_t line = 0; line < kPiecePanels * panel_bytes; line += 64) {
          __builtin_prefetch(source + (k + 32 + i) * row_bytes + begin * panel_bytes + line);
        }
      }
      for (int64_t b = 2 * begin; b < 2 * end; ++b) {
        uint8_t* to = out + b * v.block_bytes + at;
        if (is_int4) {
          pack_int4_run(weight, flip, b * kBlockColumns, k, to);
        } else {
          pack_int8_run(weight, b * kBlockColumns, k, to);
        }
      }
      if (trailer == 0 || ((k + 32) % v.group != 0 && k + 32 < v.k_padded)) continue;
      for (int64_t b = 2 * begin; b < 2 * end; ++b) {
        pack_trailer(stored, v, k / v.group, b * kBlockColumns, out + b * v.block_bytes + at + run_bytes);
      }
      at += trailer;
    }
  };
  const int64_t step = rows_per_part(weight);
  for (int64_t k = 0; k < v.k_padded; k += step) {
    const int64_t stored_rows = std::min(step, weight.dims[0] - k);
    const size_t bytes = stored_rows > 0 ? static_cast<size_t>(stored_rows * row_bytes) : 0;
    const auto reading = announce(source + k * row_bytes, bytes);
    pool.parallel_for(panels(), kPiecePanels, [&](int64_t begin, int64_t end) {
      pack_inputs(begin, end, k, std::min(k + step, v.k_padded));
    });
  }
}

}  // namespace mllm
