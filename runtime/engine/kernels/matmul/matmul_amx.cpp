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
  const uint8_t* block[2];
  const float* scales;
  const int8_t* x;  // two tiles of rows, the second x_stride later
  int64_t x_stride;
  const float* x_scales;
  const int32_t* x_corrections;
  int64_t scales_stride;  // from one tile of rows to the next
  float* sums;
  int64_t group0, group1;
};

// Add one group's integer sums [Tiles][2 blocks][16][16] to the floats.
template <int Tiles, bool Scaled>
inline void add_group(const AmxTile& t, int64_t g, const int32_t* products) {
  V factor[2] = {};
  if (Scaled) {
    factor[0] = _mm512_loadu_ps(t.scales + g * kPanelColumns);
    factor[1] = _mm512_loadu_ps(t.scales + g * kPanelColumns + kBlockColumns);
  }
  for (int tile = 0; tile < Tiles; ++tile) {
    const float* scales = t.x_scales + tile * t.scales_stride + g * kTileRows;
    const int32_t* corrections = t.x_corrections + tile * t.scales_stride + g * kTileRows;
    float* sums = t.sums + tile * kTileRows * kPanelColumns;
    const int32_t* from = products + tile * 2 * kTileRows * 16;
#pragma GCC unroll 4
    for (int64_t r = 0; r < kTileRows; ++r) {
      const V scale = _mm512_set1_ps(scales[r]);
      const VI correction = _mm512_set1_epi32(corrections[r]);
#pragma GCC unroll 2
      for (int b = 0; b < 2; ++b) {
        const VI p = _mm512_load_si512(from + (b * kTileRows + r) * 16);
        const V v = _mm512_cvtepi32_ps(_mm512_add_epi32(p, correction));
        float* to = sums + r * kPanelColumns + b * kBlockColumns;
        const V both = Scaled ? _mm512_mul_ps(factor[b], scale) : scale;
        _mm512_store_ps(to, _mm512_fmadd_ps(v, both, _mm512_load_ps(to)));
      }
    }
  }
}

template <int Tiles, bool Scaled>
void amx_tile(const AmxTile& t) {
  alignas(64) int32_t products[2][2 * 2 * 16 * 16];
  const WeightView& w = *t.w;
  const int64_t step = w.group < 64 ? w.group : 64;
  for (int64_t g = t.group0; g < t.group1; ++g) {
    const int64_t begin = g * w.group;
    const int64_t end = begin + w.group < w.k_padded ? begin + w.group : w.k_padded;
    _tile_zero(0);
    _tile_zero(1);
    if (Tiles == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
    for (int64_t k = begin; k < end; k += step) {
      const int8_t* x = t.x + k / 64 * kTileBytes + k % 64;
      _tile_loadd(4, x, 64);
      _tile_loadd(6, t.block[0] + k * kBlockColumns, 64);
      _tile_dpbsud(0, 4, 6);
      _tile_loadd(7, t.block[1] + k * kBlockColumns, 64);
      _tile_dpbsud(1, 4, 7);
      if (Tiles == 2) {
        _tile_loadd(5, x + t.x_stride, 64);
        _tile_dpbsud(2, 5, 6);
        _tile_dpbsud(3, 5, 7);
      }
    }
    // While the matrix unit works on this group, the vector units add up the one before.
    if (g > t.group0) add_group<Tiles, Scaled>(t, g - 1, products[(g - 1) & 1]);
    int32_t* to = products[g & 1];
    _tile_stored(0, to, 64);
    _tile_stored(1, to + 256, 64);
    if (Tiles == 2) {
      _tile_stored(2, to + 512, 64);
      _tile_stored(3, to + 768, 64);
    }
  }
  add_group<Tiles, Scaled>(t, t.group1 - 1, products[(t.group1 - 1) & 1]);
}

// Tiles always have 16 rows in memory; missing ones are zero. The int8 values of 64 inputs stand together.
void arrange_tiles(const ActivationTile& t) {
  alignas(64) int8_t row[kActivationGroup];
  if (t.rows < kTileRows) {
    __builtin_memset(t.values, 0, static_cast<size_t>(kTileRows * ((t.k_padded + 63) / 64 * 64)));
    for (int64_t i = 0; i < t.groups * kTileRows; ++i) {
      t.scales[i] = 0.0f;
      t.corrections[i] = 0;
    }
  }
  for (int64_t r = 0; r < t.rows; ++r) {
    const float* x = t.x + r * t.x_stride;
    for (int64_t g = 0; g < t.groups; ++g) {
      const int64_t begin = g * t.group;
      const int64_t padded = least(t.group, t.k_padded - begin);
      const int64_t rest = t.k - begin;
      int32_t sum;
      quantize_group(x + begin, rest < 0 ? 0 : least(rest, padded), padded, row, &t.scales[g * kTileRows + r],
                     &sum);
      t.corrections[g * kTileRows + r] = -128 * sum;
      for (int64_t i = 0; i < padded; i += 32) {
        const int64_t k = begin + i;
        __builtin_memcpy(t.values + k / 64 * kTileBytes + r * 64 + k % 64, row + i, 32);
      }
    }
  }
}

void amx_panel(const PanelProduct& product) {
  const WeightView& w = *product.weights;
  const ActivationView& a = *product.activations;
  const IntPanel panel = int_panel_of(product);
  const int64_t tiles = (a.rows + kTileRows - 1) / kTileRows;
  // sums has room for whole tiles.
  for (int64_t i = 0; i < tiles * kTileRows * kPanelColumns; i += kLanes) store(product.sums + i, zero());
  configure(w.group < 64 ? w.group : 64);
  settle_memory(panel.block[0]);
  const int64_t tile_bytes = (w.k_padded + 63) / 64 * kTileBytes;
  const int64_t step = 512 / w.group;  // 16 KiB of weights at a time stay in the first-level cache
  for (int64_t g = 0; g < w.groups; g += step) {
    for (int64_t i = 0; i < tiles; i += 2) {
      const AmxTile tile{.w = &w,
                         .block = {panel.block[0], panel.block[1]},
                         .scales = panel.scales,
                         .x = a.values + i * tile_bytes,
                         .x_stride = tile_bytes,
                         .x_scales = a.scales + i * w.groups * kTileRows,
                         .x_corrections = a.corrections + i * w.groups * kTileRows,
                         .scales_stride = w.groups * kTileRows,
                         .sums = product.sums + i * kTileRows * kPanelColumns,
                         .group0 = g,
                         .group1 = least(g + step, w.groups)};
      const bool pair = i + 1 < tiles;
      if (panel.scales) {
        pair ? amx_tile<2, true>(tile) : amx_tile<1, true>(tile);
      } else {
        pair ? amx_tile<2, false>(tile) : amx_tile<1, false>(tile);
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
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
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
