// AMX: products of 16 rows x 64 bytes by 64 bytes x 16 columns in one instruction, beside AVX-512 for the
// rest.
#if defined(__x86_64__)
#include "kernels/matmul/lanes_avx512.h"
// clang-format off: the parts build on each other in this order
#include "kernels/matmul/dot_avx512vnni.h"
#include "kernels/matmul/matmul_impl.h"
// clang-format on

namespace mllm {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileBytes = 1024;  // 16 rows of 64 bytes

struct alignas(64) TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// GCC's tile loads do not tell the compiler that they read memory: what they are to read must be there
// before.
inline void settle_memory(const void* p) {
  asm volatile("" : : "r"(p) : "memory");
}

// Registers 0-3 are sums (rows x columns), 4 and 5 activations (rows x k), 6 and 7 weights (k/4 x columns*4).
void configure(int64_t step) {
  TileShapes shapes;
  for (int i = 0; i < 4; ++i) {
    shapes.rows[i] = 16;
    shapes.row_bytes[i] = 64;
  }
  for (int i = 4; i < 6; ++i) {
    shapes.rows[i] = 16;
    shapes.row_bytes[i] = static_cast<uint16_t>(step);
  }
  for (int i = 6; i < 8; ++i) {
    shapes.rows[i] = static_cast<uint8_t>(step / 4);
    shapes.row_bytes[i] = 64;
  }
  settle_memory(&shapes);
  _tile_loadconfig(&shapes);
}

struct AmxTile {
  const WeightView* w;
  const uint8_t* block[2];       // signed weights of the columns, from k = 0
  const float* scales;           // of the groups, [groups][32], or null
  const float* zeros;            // the same
  const int8_t* x;               // of the rows, from k = 0
  const float* x_scales;         // [spans][16]; null: sums are integers
  const int32_t* x_corrections;  // [groups][16]
  float* sums;                   // [16][32]
  int64_t tile_bytes;            // from one tile of 16 rows to the next, of x
  int64_t tile_scales;           // of x_scales
  int64_t tile_corrections;
  int64_t span0, span1;
};

constexpr int kRegisters = 4;
constexpr int64_t kTileSums = kTileRows * 16;
// What tile registers 0-3 held, [register][row][column], of one step and of the step before: sums are used
// one step later, while the matrix unit works on the next.
struct alignas(64) Products {
  int32_t of[2][kRegisters * kTileSums];
  int32_t* at(int64_t step) { return of[step & 1]; }
};

inline V product_row(const int32_t* products, int64_t reg, int64_t r) {
  return _mm512_cvtepi32_ps(_mm512_load_si512(products + reg * kTileSums + r * 16));
}

// Take the share of the zero points of a group and block, 16 columns, from its sums in a register.
void subtract_zeros(const AmxTile& t, int64_t tile, int64_t g, int64_t b, int32_t* products) {
  const V zeros = load(t.zeros + g * kPanelColumns + b * kBlockColumns);
  const int32_t* corrections = t.x_corrections + tile * t.tile_corrections + g * kTileRows;
  for (int64_t r = 0; r < kTileRows; ++r) {
    const VI share = round_to_int(mul(zeros, splat(static_cast<float>(corrections[r] / 128))));
    int32_t* row = products + r * 16;
    _mm512_store_si512(row, _mm512_add_epi32(_mm512_load_si512(row), share));
  }
}

// ---- One group a span: 32 rows by 32 columns at once, so that every tile that is loaded is used twice.

// Add the integer sums of a span, registers [rows' tile][block].
template <int Tiles, bool Scaled>
inline void add_square(const AmxTile& t, int64_t s, int32_t* products) {
  if (t.zeros) {
    for (int64_t i = 0; i < 2 * Tiles; ++i) subtract_zeros(t, i / 2, s, i % 2, products + i * kTileSums);
  }
  if (!Scaled && t.x_scales == nullptr) {
    for (int64_t i = 0; i < 2 * Tiles; ++i) {
      float* sums = t.sums + i / 2 * kTileRows * kPanelColumns + i % 2 * kBlockColumns;
      for (int64_t r = 0; r < kTileRows; ++r) {
        add_integers(_mm512_load_si512(products + i * kTileSums + r * 16), sums + r * kPanelColumns);
      }
    }
    return;
  }
  V factor[2] = {};
  if (Scaled) {
    factor[0] = _mm512_loadu_ps(t.scales + s * kPanelColumns);
    factor[1] = _mm512_loadu_ps(t.scales + s * kPanelColumns + kBlockColumns);
  }
  for (int64_t tile = 0; tile < Tiles; ++tile) {
    const float* scales = t.x_scales + tile * t.tile_scales + s * kTileRows;
    float* sums = t.sums + tile * kTileRows * kPanelColumns;
#pragma GCC unroll 4
    for (int64_t r = 0; r < kTileRows; ++r) {
      const V scale = _mm512_set1_ps(scales[r]);
#pragma GCC unroll 2
      for (int64_t b = 0; b < 2; ++b) {
        V value = product_row(products, tile * 2 + b, r);
        if (Scaled) value = _mm512_mul_ps(value, factor[b]);
        float* to = sums + r * kPanelColumns + b * kBlockColumns;
        _mm512_store_ps(to, _mm512_fmadd_ps(value, scale, _mm512_load_ps(to)));
      }
    }
  }
}

template <int Tiles, bool Scaled>
void amx_square(const AmxTile& t) {
  Products products;
  const int64_t span = t.w->span;
  for (int64_t s = t.span0; s < t.span1; ++s) {
    const int64_t end = least((s + 1) * span, t.w->k_padded);
    _tile_zero(0);
    _tile_zero(1);
    if (Tiles == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
    for (int64_t k = s * span; k < end; k += 64) {
      const int8_t* x = t.x + k / 64 * kTileBytes;
      _tile_loadd(4, x, 64);
      _tile_loadd(6, t.block[0] + k * kBlockColumns, 64);
      _tile_dpbssd(0, 4, 6);
      _tile_loadd(7, t.block[1] + k * kBlockColumns, 64);
      _tile_dpbssd(1, 4, 7);
      if (Tiles == 2) {
        _tile_loadd(5, x + t.tile_bytes, 64);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
      }
    }
    if (s > t.span0) add_square<Tiles, Scaled>(t, s - 1, products.at(s - 1));
    int32_t* to = products.at(s);
    _tile_stored(0, to, 64);
    _tile_stored(1, to + kTileSums, 64);
    if (Tiles == 2) {
      _tile_stored(2, to + 2 * kTileSums, 64);
      _tile_stored(3, to + 3 * kTileSums, 64);
    }
  }
  add_square<Tiles, Scaled>(t, t.span1 - 1, products.at(t.span1 - 1));
}

// ---- Several groups a span: 16 rows by one block, each group's sums in a register of their own, so that the
// floats of a span stay in vector registers.

// Add the integer sums of a span's groups.
inline void add_groups(const AmxTile& t, int64_t b, int64_t s, int32_t* products) {
  const WeightView& w = *t.w;
  const int64_t first = s * (kGroupedSpan / w.group);
  const int64_t count = least(kGroupedSpan / w.group, w.groups - first);
  if (t.zeros) {
    for (int64_t i = 0; i < count; ++i) subtract_zeros(t, 0, first + i, b, products + i * kTileSums);
  }
  V factor[kRegisters];
  for (int64_t i = 0; i < kRegisters; ++i) {
    factor[i] =
        i < count ? _mm512_loadu_ps(t.scales + (first + i) * kPanelColumns + b * kBlockColumns) : zero();
  }
  const float* scales = t.x_scales + s * kTileRows;
  float* to = t.sums + b * kBlockColumns;
#pragma GCC unroll 4
  for (int64_t r = 0; r < kTileRows; ++r, to += kPanelColumns) {
    V value = _mm512_fmadd_ps(product_row(products, 0, r), factor[0], zero());
    if (count > 1) value = _mm512_fmadd_ps(product_row(products, 1, r), factor[1], value);
    if (count > 2) value = _mm512_fmadd_ps(product_row(products, 2, r), factor[2], value);
    if (count > 3) value = _mm512_fmadd_ps(product_row(products, 3, r), factor[3], value);
    _mm512_store_ps(to, _mm512_fmadd_ps(value, _mm512_set1_ps(scales[r]), _mm512_load_ps(to)));
  }
}

// The integer sums of one group in tile register R, with X and W for what is multiplied. Registers are named
// in the instructions, hence a macro.
#define MLLM_MULTIPLY_GROUP(R, X, W)                        \
  if (begin + (R) * group < end) {                          \
    const int64_t k = begin + (R) * group;                  \
    _tile_zero(R);                                          \
    _tile_loadd(X, t.x + k / 64 * kTileBytes + k % 64, 64); \
    _tile_loadd(W, block + k * kBlockColumns, 64);          \
    _tile_dpbssd(R, X, W);                                  \
    _tile_stored(R, to + (R) * kTileSums, 64);              \
  }

void amx_groups(const AmxTile& t, int64_t b) {
  Products products;
  const int64_t group = t.w->group;
  const uint8_t* block = t.block[b];
  for (int64_t s = t.span0; s < t.span1; ++s) {
    const int64_t begin = s * kGroupedSpan;
    const int64_t end = least(begin + kGroupedSpan, t.w->k_padded);
    int32_t* to = products.at(s);
    MLLM_MULTIPLY_GROUP(0, 4, 6)
    MLLM_MULTIPLY_GROUP(1, 5, 7)
    MLLM_MULTIPLY_GROUP(2, 4, 6)
    MLLM_MULTIPLY_GROUP(3, 5, 7)
    if (s > t.span0) add_groups(t, b, s - 1, products.at(s - 1));
  }
  add_groups(t, b, t.span1 - 1, products.at(t.span1 - 1));
}

// Tiles always have 16 rows in memory; missing ones are zero. The int8 values of 64 inputs stand together.
// Signed weights need no corrections, but zero points do.
void arrange_tiles(const ActivationTile& t) {
  const bool has_zeros = t.weights->has_zeros;
  if (t.rows < kTileRows) {
    __builtin_memset(t.values, 0, static_cast<size_t>(kTileRows * t.weights->k_padded));
    for (int64_t i = 0; t.scales && i < t.weights->spans * kTileRows; ++i) t.scales[i] = 0.0f;
    for (int64_t i = 0; has_zeros && i < t.weights->groups * kTileRows; ++i) t.corrections[i] = 0;
  }
  for (int64_t r = 0; r < t.rows; ++r) {
    quantize_row(t, r, kTileRows, [&](int64_t begin, int64_t padded, const int8_t* row) {
      if (has_zeros) correct_row(t, r, kTileRows, begin, padded, row);
      for (int64_t i = 0; i < padded; i += 64) {
        __builtin_memcpy(t.values + (begin + i) / 64 * kTileBytes + r * 64, row + i, 64);
      }
    });
  }
}

void amx_panel(const PanelProduct& product) {
  const WeightView& w = *product.weights;
  const ActivationView& a = *product.activations;
  // As signed bytes.
  const VI shift = _mm512_set1_epi8(w.format == WeightFormat::Int4 ? -8 : -128);
  const IntPanel panel = unpack(product, shift, 0.0f);
  const int64_t tiles = (a.rows + kTileRows - 1) / kTileRows;
  // sums has room for whole tiles.
  for (int64_t i = 0; i < tiles * kTileRows * kPanelColumns; i += kLanes) store(product.sums + i, zero());
  configure(least(w.group, 64));
  settle_memory(product.scratch);
  // 16 KiB of weights at a time stay in the first-level cache, beside as much of the activations.
  const int64_t step = 512 / w.span;
  const bool square = w.group == w.span;
  // The next panel comes from memory while this one is multiplied: a share of its lines with each tile.
  const int64_t steps = (w.spans + step - 1) / step * ((tiles + 1) / (square ? 2 : 1));
  const int64_t share = (2 * w.block_bytes / steps + 63) / 64 * 64;
  const uint8_t* next = w.blocks + 2 * (product.panel + 1) * w.block_bytes;
  const uint8_t* const next_end = next + 2 * w.block_bytes;
  for (int64_t s = 0; s < w.spans; s += step) {
    for (int64_t i = 0; i < tiles; i += square ? 2 : 1) {
      const AmxTile tile{.w = &w,
                         .block = {panel.block[0], panel.block[1]},
                         .scales = panel.scales,
                         .zeros = panel.zeros,
                         .x = a.values + i * kTileRows * w.k_padded,
                         .x_scales = a.scales ? a.scales + i * w.spans * kTileRows : nullptr,
                         .x_corrections = a.corrections + i * w.groups * kTileRows,
                         .sums = product.sums + i * kTileRows * kPanelColumns,
                         .tile_bytes = kTileRows * w.k_padded,
                         .tile_scales = w.spans * kTileRows,
                         .tile_corrections = w.groups * kTileRows,
                         .span0 = s,
                         .span1 = least(s + step, w.spans)};
      for (int64_t line = 0; line < share && next < next_end; line += 64, next += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(next), _MM_HINT_T1);
      }
      if (!square) {
        amx_groups(tile, 0);
        amx_groups(tile, 1);
      } else if (i + 1 < tiles) {
        panel.scales ? amx_square<2, true>(tile) : amx_square<2, false>(tile);
      } else {
        panel.scales ? amx_square<1, true>(tile) : amx_square<1, false>(tile);
      }
    }
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

constexpr MatmulKernels kAmxKernels = {kTileRows, arrange_tiles, amx_panel, nullptr, finish, tile_peak};

}  // namespace

const MatmulKernels& amx_matmul() {
  return kAmxKernels;
}

}  // namespace mllm
#endif
