// AMX: products of 16 rows x 64 bytes by 64 bytes x 16 columns in one instruction, beside AVX-512 for the
// rest.
#if defined(__x86_64__)
#include "kernels/matmul/lanes_avx512.h"
// clang-format off: the parts build on each other in this order
#include "kernels/matmul/dot_avx512vnni.h"
#include "kernels/matmul/amx_tiles.h"
#include "kernels/matmul/matmul_impl.h"
// clang-format on

namespace mllm {
namespace {

constexpr int64_t kTileBytes = 1024;  // 16 rows of 64 bytes

// Panels of weights and what they are multiplied with.
struct AmxPanels {
  const WeightView* w;
  const ActivationView* a;
  IntPanel weights;     // of the first panel: signed, or + 128 where int8 is read as it is stored
  int64_t block_bytes;  // of its blocks
  int64_t first;
  int64_t count;  // those that are unpacked as a whole come one at a time
  float* sums;    // [count][tiles * 16][32], sums_stride apart
  int64_t sums_stride;
  int64_t tiles;  // of 16 rows
  // Rows of a tile have room for so many scales and corrections, used or not.
  int64_t most_spans, most_groups;
  int64_t first_input = 0;  // of the blocks

  // Block b of panel p, from input k on.
  const uint8_t* block(int64_t p, int64_t b, int64_t k) const {
    return weights.block[b] + 2 * p * block_bytes + (k - first_input) * kBlockColumns;
  }
  const float* scales_of(int64_t p, int64_t s) const {
    return weights.scales + (p * w->spans + s) * kPanelColumns;
  }
  const float* zeros_of(int64_t p, int64_t s) const {
    return weights.zeros + (p * w->spans + s) * kPanelColumns;
  }
  const int8_t* values(int64_t tile, int64_t k) const {
    return a->values + tile * kTileRows * w->k_padded + k / 64 * kTileBytes + k % 64;
  }
  const float* x_scales(int64_t tile, int64_t s) const {
    return a->scales + (tile * most_spans + s) * kTileRows;
  }
  const int32_t* corrections(int64_t tile, int64_t g) const {
    return a->corrections + (tile * most_groups + g) * kTileRows;
  }
  float* sums_of(int64_t p, int64_t tile, int64_t b) const {
    return sums + p * sums_stride + tile * kTileRows * kPanelColumns + b * kBlockColumns;
  }
};

// Sums begin with the first span, in memory that nobody has cleared: where the others find the row so far,
// it finds this.
constexpr struct alignas(64) {
  float of[kPanelColumns] = {};
} kZeroRow;

// The share of the zero points, of 16 columns of a group, in the integer sums of a row.
inline VI zero_share(V zeros, int32_t correction) {
  return round_to_int(mul(zeros, splat(static_cast<float>(correction / 128))));
}

// The matrix unit and the vector units work at the same time: while registers 0-3 are filled for one unit of
// work, the sums of the unit before are stored, each right before its register is cleared, and those of the
// one before that are added up, a few rows beside each product. (To store a register right after its product
// is to wait for it: four products take 125 cycles then in place of 92, 64 of them for the products alone.)
constexpr int kRegisters = 4;
constexpr int64_t kTileSums = kTileRows * 16;

template <class Unit>
struct Pipeline {
  alignas(64) int32_t products[2][kRegisters * kTileSums];  // [register][row][column], of two units
  int64_t count = 0;
  Unit in_registers{}, in_memory{};

  int32_t* place_for_registers() { return products[(count + 1) & 1]; }
  const int32_t* from_memory() const { return products[count & 1]; }
  void advance(const Unit& now) {
    in_memory = in_registers;
    in_registers = now;
    ++count;
  }
};

// Tile registers are named in instructions: hence macros for what else would be functions of a register.
#define MLLM_STORE_AND_CLEAR(R, TO)            \
  _tile_stored(R, (TO) + (R) * kTileSums, 64); \
  _tile_zero(R)
#define MLLM_MULTIPLY(R, X, W) \
  if constexpr (Offset) {      \
    _tile_dpbsud(R, X, W);     \
  } else {                     \
    _tile_dpbssd(R, X, W);     \
  }                            \
  static_assert(true)

// The last two units: add(unit, its products).
template <class Unit, class Add>
inline void drain(Pipeline<Unit>& pipeline, const Add& add) {
  int32_t* to = pipeline.place_for_registers();
  MLLM_STORE_AND_CLEAR(0, to);
  MLLM_STORE_AND_CLEAR(1, to);
  MLLM_STORE_AND_CLEAR(2, to);
  MLLM_STORE_AND_CLEAR(3, to);
  settle_memory(&pipeline);
  for (int i = 0; i < 2; ++i, pipeline.advance({})) add(pipeline.in_memory, pipeline.from_memory());
}

// ---- One group a span: 32 rows by 32 columns at once, so that every tile that is loaded is used twice.

struct Square {
  int64_t panel = 0;
  int64_t tile = 0;
  int64_t tiles = 0;  // two, or one where it is the last; none before the first square
  int64_t s = 0;
};

enum class SumKind { Floats, ScaledFloats, Integers };

// Rows that are added beside one product. The loops over them have all that they need in registers.
constexpr int64_t kSlice = 8;

// Add the integer sums, registers [tile][block], of the slice of a square.
template <SumKind kind, bool Offset>
inline void add_square(const AmxPanels& t, const Square& q, const int32_t* products, int64_t slice) {
  const int64_t tile = slice * kSlice / kTileRows;
  const int64_t r0 = slice * kSlice % kTileRows;
  const int32_t* product = products + tile * 2 * kTileSums + r0 * 16;
  const int32_t* corrections = t.corrections(q.tile + tile, q.s) + r0;
  const float* x_scales = t.x_scales(q.tile + tile, q.s) + r0;
  float* to = t.sums_of(q.panel, q.tile + tile, 0) + r0 * kPanelColumns;
  const float* from = q.s == 0 ? kZeroRow.of : to;
  const int64_t from_stride = q.s == 0 ? 0 : kPanelColumns;
  V factor[2] = {}, zeros[2] = {};
  if (kind == SumKind::ScaledFloats) {
    factor[0] = load(t.scales_of(q.panel, q.s));
    factor[1] = load(t.scales_of(q.panel, q.s) + kBlockColumns);
  }
  const bool has_zeros = !Offset && t.weights.zeros;
  if (has_zeros) {
    zeros[0] = load(t.zeros_of(q.panel, q.s));
    zeros[1] = load(t.zeros_of(q.panel, q.s) + kBlockColumns);
  }
#pragma GCC unroll 8
  for (int64_t r = 0; r < kSlice; ++r) {
#pragma GCC unroll 2
    for (int64_t b = 0; b < 2; ++b) {
      VI sum = _mm512_load_si512(product + b * kTileSums + r * 16);
      if (Offset) sum = add_int(sum, splat_int(corrections[r]));
      if (has_zeros) sum = add_int(sum, zero_share(zeros[b], corrections[r]));
      const float* before = from + r * from_stride + b * kBlockColumns;
      float* row = to + r * kPanelColumns + b * kBlockColumns;
      if (kind == SumKind::Integers) {
        _mm512_store_si512(row, add_int(sum, _mm512_load_si512(before)));
        continue;
      }
      V value = to_float(sum);
      if (kind == SumKind::ScaledFloats) value = mul(value, factor[b]);
      _mm512_store_ps(row, fma(value, splat(x_scales[r]), _mm512_load_ps(before)));
    }
  }
}

// `step` spans at a time, of which prepare(panel, begin, end) makes the weights ready, and says what to bring
// to the cache meanwhile.
template <SumKind kind, bool Offset, class Prepare>
void multiply_squares(AmxPanels& t, int64_t step, const Prepare& prepare) {
  Pipeline<Square> pipeline;
  const WeightView& w = *t.w;
  ReadAhead next;
  const auto multiply = [&](const Square& now) __attribute__((always_inline)) {
    const int64_t begin = now.s * w.span;
    const int64_t end = least(begin + w.span, w.k_padded);
    const Square added = pipeline.in_memory;
    const int64_t slices = added.tiles * (kTileRows / kSlice);
    const int64_t slices_a_product = (slices * 64 + end - begin - 1) / (end - begin);
    int64_t slice = 0;
    int32_t* to = pipeline.place_for_registers();
    for (int64_t k = begin; k < end; k += 64) {
      _tile_loadd(4, t.values(now.tile, k), 64);
      _tile_loadd(6, t.block(now.panel, 0, k), 64);
      if (k == begin) {
        MLLM_STORE_AND_CLEAR(0, to);
      }
      MLLM_MULTIPLY(0, 4, 6);
      _tile_loadd(7, t.block(now.panel, 1, k), 64);
      if (k == begin) {
        MLLM_STORE_AND_CLEAR(1, to);
      }
      MLLM_MULTIPLY(1, 4, 7);
      if (k == begin) {
        MLLM_STORE_AND_CLEAR(2, to);
      }
      if (now.tiles == 2) {
        _tile_loadd(5, t.values(now.tile + 1, k), 64);
        MLLM_MULTIPLY(2, 5, 6);
      }
      if (k == begin) {
        MLLM_STORE_AND_CLEAR(3, to);
      }
      if (now.tiles == 2) {
        MLLM_MULTIPLY(3, 5, 7);
      }
      next.share();
      for (int64_t i = 0; i < slices_a_product && slice < slices; ++i) {
        add_square<kind, Offset>(t, added, pipeline.from_memory(), slice++);
      }
    }
    pipeline.advance(now);
  };
  // The activations of a step stay in the second-level cache for all panels, the weights of a panel and the
  // activations of 32 rows in the first.
  const int64_t inputs = step * w.span;
  for (int64_t k = 0; k < w.k_padded; k += inputs) {
    for (int64_t p = 0; p < t.count; ++p) {
      next = prepare(p, k, least(k + inputs, w.k_padded));
      for (int64_t i = 0; i < t.tiles; i += 2) {
        for (int64_t s = k / w.span; s < least(k / w.span + step, w.spans); ++s) {
          multiply({p, i, least(2, t.tiles - i), s});
        }
      }
    }
  }
  drain(pipeline, [&](const Square& added, const int32_t* products) {
    for (int64_t slice = 0; slice < added.tiles * (kTileRows / kSlice); ++slice) {
      add_square<kind, Offset>(t, added, products, slice);
    }
  });
}

// ---- Several groups a span: 16 rows by one block, each group's sums in a register of their own, so that the
// floats of a span stay in vector registers.

struct Groups {
  int64_t tile = 0;
  int64_t b = 0;
  int64_t s = 0;
  int64_t count = 0;  // of the span; none before the first
};

// Add a quarter of the rows of the integer sums of a span's groups.
template <bool Zeros>
inline void add_groups(const AmxPanels& t, const Groups& q, const int32_t* products, int64_t quarter) {
  constexpr int64_t kQuarter = kTileRows / 4;
  const int64_t first = q.s * (kGroupedSpan / t.w->group);
  const int64_t column = first * kPanelColumns + q.b * kBlockColumns;
  V factor[kRegisters], zeros[kRegisters];
#pragma GCC unroll 4
  for (int64_t i = 0; i < kRegisters; ++i) {
    factor[i] = i < q.count ? load(t.weights.scales + column + i * kPanelColumns) : zero();
    zeros[i] = Zeros && i < q.count ? load(t.weights.zeros + column + i * kPanelColumns) : zero();
  }
  const int64_t r0 = quarter * kQuarter;
  const int32_t* product = products + r0 * 16;
  const int32_t* corrections = t.corrections(q.tile, first) + r0;
  const float* x_scales = t.x_scales(q.tile, q.s) + r0;
  float* to = t.sums_of(0, q.tile, q.b) + r0 * kPanelColumns;
  const float* from = q.s == 0 ? kZeroRow.of : to;
  const int64_t from_stride = q.s == 0 ? 0 : kPanelColumns;
#pragma GCC unroll 4
  for (int64_t r = 0; r < kQuarter; ++r) {
    const auto group = [&](int64_t i) __attribute__((always_inline)) {
      VI sum = _mm512_load_si512(product + i * kTileSums + r * 16);
      if (Zeros) sum = add_int(sum, zero_share(zeros[i], corrections[i * kTileRows + r]));
      return to_float(sum);
    };
    V value = fma(group(0), factor[0], zero());
    if (q.count > 1) value = fma(group(1), factor[1], value);
    if (q.count > 2) value = fma(group(2), factor[2], value);
    if (q.count > 3) value = fma(group(3), factor[3], value);
    _mm512_store_ps(to + r * kPanelColumns,
                    fma(value, splat(x_scales[r]), _mm512_load_ps(from + r * from_stride)));
  }
}

// The integer sums of one group in tile register R, with X and W for what is multiplied.
#define MLLM_MULTIPLY_GROUP(R, X, W)                                           \
  _tile_stored(R, to + (R) * kTileSums, 64);                                   \
  if ((R) < now.count) {                                                       \
    const int64_t k = begin + (R) * group;                                     \
    _tile_zero(R);                                                             \
    _tile_loadd(X, t.values(now.tile, k), 64);                                 \
    _tile_loadd(W, block + k * kBlockColumns, 64);                             \
    _tile_dpbssd(R, X, W);                                                     \
  }                                                                            \
  if (added.count > 0) add_groups<Zeros>(t, added, pipeline.from_memory(), R); \
  static_assert(true)

template <bool Zeros>
void multiply_groups(AmxPanels& t, int64_t step) {
  Pipeline<Groups> pipeline;
  const WeightView& w = *t.w;
  const int64_t group = w.group;
  const auto multiply = [&](const Groups& now) __attribute__((always_inline)) {
    const int64_t begin = now.s * kGroupedSpan;
    const uint8_t* block = t.weights.block[now.b];
    const Groups added = pipeline.in_memory;
    int32_t* to = pipeline.place_for_registers();
    MLLM_MULTIPLY_GROUP(0, 4, 6);
    MLLM_MULTIPLY_GROUP(1, 5, 7);
    MLLM_MULTIPLY_GROUP(2, 4, 6);
    MLLM_MULTIPLY_GROUP(3, 5, 7);
    pipeline.advance(now);
  };
  const int64_t most = kGroupedSpan / group;
  for (int64_t s0 = 0; s0 < w.spans; s0 += step) {
    for (int64_t i = 0; i < t.tiles; ++i) {
      for (int64_t b = 0; b < 2; ++b) {
        for (int64_t s = s0; s < least(s0 + step, w.spans); ++s) {
          multiply({i, b, s, least(most, w.groups - s * most)});
        }
      }
    }
  }
  drain(pipeline, [&](const Groups& added, const int32_t* products) {
    for (int64_t quarter = 0; added.count > 0 && quarter < 4; ++quarter) {
      add_groups<Zeros>(t, added, products, quarter);
    }
  });
}

// -128 times the sums of a row's values, per group of the weights.
void correct_groups(const ActivationTile& t, int64_t r, int64_t begin, int64_t padded, const int8_t* row) {
  const int64_t group = t.weights->group;
  if (group < 64) return correct_row(t, r, kTileRows, begin, padded, row);
  for (int64_t i = 0; i < padded; i += group) {
    VI sum = splat_int(0);
    for (int64_t j = i; j < least(i + group, padded); j += 64) {
      sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_load_si512(row + j));
    }
    t.corrections[(begin + i) / group * kTileRows + r] = -128 * sum_int(sum);
  }
}

// Tiles always have 16 rows in memory; missing ones are zero. The int8 values of 64 inputs stand together.
// Signed weights need no corrections, but zero points and offsets do.
void arrange_tiles(const ActivationTile& t) {
  const bool has_corrections = t.weights->has_zeros || is_multiplied_in_place(*t.weights);
  if (t.rows < kTileRows) {
    __builtin_memset(t.values, 0, static_cast<size_t>(kTileRows * t.weights->k_padded));
    for (int64_t i = 0; t.scales && i < t.weights->spans * kTileRows; ++i) t.scales[i] = 0.0f;
    for (int64_t i = 0; has_corrections && i < t.weights->groups * kTileRows; ++i) t.corrections[i] = 0;
  }
  alignas(64) int8_t row[kWideSpan];
  const WeightView& w = *t.weights;
  for (int64_t r = 0; r < t.rows; ++r) {
    RowQuantizer quantizer(t, r, kTileRows);
    for (int64_t s = 0; s < w.spans; ++s) {
      const int64_t begin = s * w.span;
      const int64_t padded = padded_span(w, s);
      quantizer.span(begin, padded, row);
      if (has_corrections) correct_groups(t, r, begin, padded, row);
      for (int64_t i = 0; i < padded; i += 64) {
        __builtin_memcpy(t.values + (begin + i) / 64 * kTileBytes + r * 64, row + i, 64);
      }
    }
    quantizer.end();
  }
}

AmxPanels panels_of(const PanelProduct& product, const WeightView& w) {
  return {.w = &w,
          .a = product.activations,
          .weights = {},
          .block_bytes = w.block_bytes,
          .first = product.panel,
          .count = product.panels,
          .sums = product.sums,  // has room for whole tiles
          .sums_stride = product.sums_stride,
          .tiles = (product.activations->rows + kTileRows - 1) / kTileRows,
          .most_spans = product.weights->spans,
          .most_groups = product.weights->groups};
}

// While inputs [begin, end) of panel p are multiplied, at(k) being the bytes of a block before input k: what
// comes next is the same inputs of the next panel, or those behind them of the first one.
template <class At>
ReadAhead read_ahead(const AmxPanels& t, int64_t p, int64_t begin, int64_t end, const At& at) {
  const bool is_last = p + 1 == t.count;
  const int64_t next_begin = is_last ? end : begin;
  const int64_t next_end = is_last ? least(2 * end - begin, t.w->k_padded) : end;
  return ReadAhead(*t.w, t.first + (is_last ? 0 : p + 1), at(next_begin), at(next_end),
                   (t.tiles + 1) / 2 * ((end - begin) / 64));
}

// int8 that is multiplied as it is stored, `step` spans at a time.
template <SumKind kind>
void multiply_in_place(AmxPanels& t, int64_t step) {
  multiply_squares<kind, true>(t, step, [&](int64_t p, int64_t begin, int64_t end) {
    return read_ahead(t, p, begin, end, [](int64_t k) { return k * kBlockColumns; });
  });
}

template <SumKind kind>
void multiply_unpacked(AmxPanels& t, int64_t step) {
  multiply_squares<kind, false>(t, step, [](int64_t, int64_t, int64_t) { return ReadAhead(); });
}

void amx_panels(const PanelProduct& product) {
  const WeightView& w = *product.weights;
  const bool is_float = product.activations->scales != nullptr;
  configure(least(w.group, 64));
  AmxPanels t = panels_of(product, w);
  // 8 KiB of weights at a time.
  const int64_t step = 256 / w.span;
  if (is_multiplied_in_place(w)) {
    t.weights = stored_panel(w, product.panel);
    is_float ? multiply_in_place<SumKind::Floats>(t, step) : multiply_in_place<SumKind::Integers>(t, step);
    return _tile_release();
  }
  const VI to_signed = _mm512_set1_epi8(w.format == WeightFormat::Int4 ? -8 : -128);
  t.count = 1;
  for (int64_t p = 0; p < product.panels; ++p) {
    t.first = product.panel + p;
    t.weights = unpack(w, t.first, 0, w.k_padded, to_signed, 0.0f, product.scratch);
    t.block_bytes = 0;
    t.sums = product.sums + p * product.sums_stride;
    settle_memory(product.scratch);
    if (w.group != w.span) {
      w.has_zeros ? multiply_groups<true>(t, step) : multiply_groups<false>(t, step);
    } else if (!is_float) {
      multiply_unpacked<SumKind::Integers>(t, step);
    } else if (t.weights.scales) {
      multiply_unpacked<SumKind::ScaledFloats>(t, step);
    } else {
      multiply_unpacked<SumKind::Floats>(t, step);
    }
  }
  _tile_release();
}

// ---- Wide spans.

void wide_panels(const PanelProduct& product) {
  const WeightView& w = *product.weights;
  const WeightView wide = widened(w);
  configure(64);
  AmxPanels t = panels_of(product, wide);
  if (is_multiplied_in_place(w)) {
    t.weights = stored_panel(w, product.panel);
    multiply_in_place<SumKind::Floats>(t, 1);
    return _tile_release();
  }
  auto* bytes = static_cast<uint8_t*>(product.scratch);
  uint8_t* second = bytes + kBlockColumns * least(kWideSpan, w.k_padded);
  // The scales of int4, the zero points of int8.
  auto* factors = reinterpret_cast<float*>(second + kBlockColumns * least(kWideSpan, w.k_padded));
  const bool is_int4 = w.format == WeightFormat::Int4;
  t.weights = {{bytes, second}, is_int4 ? factors : nullptr, is_int4 ? nullptr : factors};
  t.block_bytes = 0;
  const auto prepare = [&](int64_t p, int64_t begin, int64_t end) {
    const uint8_t* first = w.blocks + 2 * (product.panel + p) * w.block_bytes + bytes_before(w, begin);
    float* of = factors + (p * wide.spans + begin / kWideSpan) * kPanelColumns;
    for (int64_t b = 0; b < 2; ++b, first += w.block_bytes, of += kBlockColumns) {
      uint8_t* to = b == 0 ? bytes : second;
      if (is_int4) {
        unpack_wide<false>(w, first, begin, end, to, of);
      } else {
        gather_wide(w, first, begin, end, _mm512_set1_epi8(-128), 0.0f, to, of);
      }
    }
    t.first_input = begin;
    settle_memory(product.scratch);
    return read_ahead(t, p, begin, end, [&](int64_t k) { return bytes_before(w, k); });
  };
  if (is_int4) {
    multiply_squares<SumKind::ScaledFloats, false>(t, 1, prepare);
  } else {
    multiply_squares<SumKind::Floats, false>(t, 1, prepare);
  }
  _tile_release();
}

int64_t tile_peak(int64_t rounds) {
  configure(64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (int64_t r = 0; r < rounds; ++r) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_release();
  return rounds * 4 * 16 * 16 * 64;
}

constexpr MatmulKernels kWideTiles = {.tile_rows = kTileRows,
                                      .arrange = arrange_wide_with<arrange_tiles>,
                                      .int_panels = wide_panels,
                                      .float_panels = nullptr,
                                      .finish = finish,
                                      .multiply_peak = nullptr,
                                      .panels_at_once = kMostPanelsAtOnce};

constexpr MatmulKernels kTiles = {.tile_rows = kTileRows,
                                  .arrange = arrange_tiles,
                                  .int_panels = amx_panels,
                                  .float_panels = nullptr,
                                  .finish = finish,
                                  .multiply_peak = tile_peak,
                                  .panels_at_once = kMostPanelsAtOnce,
                                  .wide = &kWideTiles};

}  // namespace

const MatmulKernels& amx_matmul() {
  return kTiles;
}

}  // namespace mllm
#endif
