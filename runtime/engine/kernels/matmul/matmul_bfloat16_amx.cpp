// AMX, int4 weights: products of bfloat16, 16 rows x 32 values by 32 x 16 columns in one instruction.
//
// Products of bytes need a register of sums for every group of 32 inputs, half filled, that vector units then
// scale and add: that takes three times as long as the products. With its scale multiplied into a weight
// before, one register takes the sums of all inputs. Weights are rounded to 8 bits that way, activations too:
// 2^-9 of each value at most, where int8 activations have 2^-8 of the largest one of their span.
#if defined(__x86_64__)
#include "kernels/matmul/lanes_avx512.h"
// clang-format off: the parts build on each other in this order
#include "kernels/matmul/dot_avx512vnni.h"
#include "kernels/matmul/amx_tiles.h"
#include "kernels/matmul/matmul_impl.h"
// clang-format on

namespace mllm {
namespace {

// Values that one tile register holds of a row, or of a column. Rows of a register of weights are pairs of
// inputs; of four inputs the first and third are a pair, then the second and fourth, which is how nibbles
// come out of their bytes.
constexpr int64_t kTileInputs = 32;
// Inputs whose products stay in the registers of sums before these make way for the next rows, a multiple of
// every group: 16 KiB of weights, in the first-level cache with as much of the activations.
constexpr int64_t kStep = 256;
static_assert(kStep * sizeof(uint16_t) <= kFloatSpan * sizeof(float), "more than panel_scratch_bytes()");

// To cut floats down to bfloat16 instead of rounding them saves a fifth of the unpacking. Values that are
// larger by this factor before are rounded by the cut: it adds 0.36 to 0.71 of the last place, depending on
// the mantissa, where rounding to nearest adds 0.5, and sums of many come out neither larger nor smaller (2
// in 100,000). What bfloat16 can hold exactly stays as it is.
constexpr float kRoundingFactor = 1.0f + 0.71f / 256.0f;

// Bytes of a block before input k, which begins a group.
inline int64_t bytes_before(const WeightView& w, int64_t k) {
  return k * kBlockColumns / 2 + (k + w.group - 1) / w.group * trailer_bytes(w);
}

// Inputs k0 … k1-1 of both blocks of a panel as bfloat16 with their scales, [block][kStep/2][16][2].
void unpack_bfloat16(const WeightView& w, int64_t panel, int64_t k0, int64_t k1, uint16_t* to) {
  // bfloat16 of a nibble less 8, for words whose upper bits are something else.
  alignas(64) uint16_t words[32];
  for (int i = 0; i < 32; ++i) {
    const auto value = static_cast<float>(i % 16 - 8);
    uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    words[i] = static_cast<uint16_t>(bits >> 16);
  }
  const VI table = _mm512_load_si512(words);
  const VI upper = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
  const int64_t skip = scale_bytes(w);
  for (int64_t b = 0; b < 2; ++b, to += kStep * kBlockColumns) {
    const uint8_t* p = w.blocks + (2 * panel + b) * w.block_bytes + bytes_before(w, k0);
    uint16_t* row = to;
    for (int64_t k = k0; k < k1; k += w.group) {
      const int64_t size = least(w.group, k1 - k);
      const uint8_t* trailer = p + size * kBlockColumns / 2;
      const V scale = mul(skip ? group_scales(w, trailer, 0) : splat(1.0f), splat(kRoundingFactor));
      const V shift = w.has_zeros ? mul(mul(group_zeros(trailer, skip, 0), splat(-1.0f)), scale) : zero();
      // Two inputs per column from the nibbles that `pairs` has in bits 0-3 and 16-19.
      const auto put = [&](VI pairs, int64_t at) __attribute__((always_inline)) {
        const VI values = _mm512_permutexvar_epi16(pairs, table);
        const V first = fma(_mm512_castsi512_ps(_mm512_slli_epi32(values, 16)), scale, shift);
        const V second = fma(_mm512_castsi512_ps(_mm512_and_si512(values, upper)), scale, shift);
        const VI low = _mm512_srli_epi32(_mm512_castps_si512(first), 16);
        _mm512_store_si512(row + at * 32,
                           _mm512_mask_blend_epi16(0xaaaaaaaau, low, _mm512_castps_si512(second)));
      };
      for (int64_t i = 0; i < size; i += 32, row += 16 * 32) {
#pragma GCC unroll 4
        for (int64_t j = 0; j < 4; ++j, p += 64) {
          const VI bytes = load_bytes(p);
          put(bytes, 2 * j);
          put(_mm512_srli_epi32(bytes, 8), 2 * j + 1);
          put(_mm512_srli_epi32(bytes, 4), 8 + 2 * j);
          put(_mm512_srli_epi32(bytes, 12), 9 + 2 * j);
        }
      }
      p = trailer + trailer_bytes(w);
    }
  }
}

// Tiles always have 16 rows in memory; missing ones are zero. The values of 32 inputs stand together.
void arrange_bfloat16(const ActivationTile& t) {
  const WeightView& w = *t.weights;
  auto* values = reinterpret_cast<uint16_t*>(t.values);
  alignas(64) uint16_t order[32];
  for (uint16_t i = 0; i < 32; ++i)
    order[i] = static_cast<uint16_t>(i / 4 * 4 + (i % 4 == 1 ? 2 : i % 4 == 2 ? 1 : i % 4));
  const VI places = _mm512_load_si512(order);
  if (t.rows < kTileRows) __builtin_memset(values, 0, static_cast<size_t>(kTileRows * w.k_padded * 2));
  for (int64_t r = 0; r < t.rows; ++r) {
    const float* x = t.x + r * t.x_stride;
    for (int64_t i = 0; i < w.k_padded; i += kTileInputs) {
      const auto part = [&](int64_t from) __attribute__((always_inline)) {
        const int64_t count = least(16, w.k - from);
        const auto mask = static_cast<__mmask16>(count <= 0 ? 0 : (1u << count) - 1);
        return _mm512_maskz_loadu_ps(mask, x + from);
      };
      const auto both = reinterpret_cast<VI>(_mm512_cvtne2ps_pbh(part(i + 16), part(i)));
      _mm512_store_si512(values + i * kTileRows + r * kTileInputs, _mm512_permutexvar_epi16(places, both));
    }
  }
}

// Tile registers are named in instructions: hence macros for what else would be functions of a register.
#define MLLM_STORE(R, TO, AT) \
  if (TO) _tile_stored(R, (TO) + (AT), kRowBytes)
#define MLLM_EXCHANGE(R, AT)               \
  MLLM_STORE(R, before, AT);               \
  if (k0 == 0) {                           \
    _tile_zero(R);                         \
  } else {                                 \
    _tile_loadd(R, now + (AT), kRowBytes); \
  }                                        \
  static_assert(true)

// Inputs k0 … k1-1 of a panel, unpacked, times those of all rows, in sums [tiles * 16][32].
void multiply_step(const PanelProduct& product, int64_t k0, int64_t k1, float* sums, ReadAhead& next) {
  constexpr int64_t kRowBytes = kPanelColumns * 4;
  const int64_t k_padded = product.weights->k_padded;
  const auto* weights = static_cast<const uint16_t*>(product.scratch);
  const auto* x = reinterpret_cast<const uint16_t*>(product.activations->values);
  // Sums of the rows before, which leave the registers one by one as those of these rows enter.
  float* before = nullptr;
  for (int64_t row = 0; row < product.activations->rows; row += 2 * kTileRows) {
    const bool two = row + kTileRows < product.activations->rows;
    float* now = sums + row * kPanelColumns;
    for (int64_t k = k0; k < k1; k += kTileInputs) {
      const uint16_t* rows = x + row * k_padded + k * kTileRows;
      const uint16_t* columns = weights + (k - k0) * kBlockColumns;
      _tile_loadd(4, rows, 64);
      _tile_loadd(6, columns, 64);
      if (k == k0) {
        MLLM_EXCHANGE(0, 0);
      }
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, columns + kStep * kBlockColumns, 64);
      if (k == k0) {
        MLLM_EXCHANGE(1, kBlockColumns);
      }
      _tile_dpbf16ps(1, 4, 7);
      if (two) {
        _tile_loadd(5, rows + kTileRows * k_padded, 64);
        if (k == k0) {
          MLLM_EXCHANGE(2, kTileRows * kPanelColumns);
        }
        _tile_dpbf16ps(2, 5, 6);
        if (k == k0) {
          MLLM_EXCHANGE(3, kTileRows * kPanelColumns + kBlockColumns);
        }
        _tile_dpbf16ps(3, 5, 7);
      } else if (k == k0) {
        MLLM_STORE(2, before, kTileRows * kPanelColumns);
        MLLM_STORE(3, before, kTileRows * kPanelColumns + kBlockColumns);
      }
    }
    before = now;
    next.share();
  }
  const bool two = (product.activations->rows - 1) % (2 * kTileRows) >= kTileRows;
  MLLM_STORE(0, before, 0);
  MLLM_STORE(1, before, kBlockColumns);
  if (two) {
    MLLM_STORE(2, before, kTileRows * kPanelColumns);
    MLLM_STORE(3, before, kTileRows * kPanelColumns + kBlockColumns);
  }
  settle_memory(sums);
}

// The activations of a step stay in the second-level cache for all panels, the weights of a panel and the
// activations of 32 rows in the first.
void bfloat16_panels(const PanelProduct& product) {
  const WeightView& w = *product.weights;
  const int64_t tiles = (product.activations->rows + kTileRows - 1) / kTileRows;
  configure(64);
  for (int64_t k0 = 0; k0 < w.k_padded; k0 += kStep) {
    const int64_t k1 = least(k0 + kStep, w.k_padded);
    for (int64_t p = 0; p < product.panels; ++p) {
      unpack_bfloat16(w, product.panel + p, k0, k1, static_cast<uint16_t*>(product.scratch));
      settle_memory(product.scratch);
      const bool is_last = p + 1 == product.panels;
      ReadAhead next(w, product.panel + (is_last ? 0 : p + 1), bytes_before(w, is_last ? k1 : k0),
                     bytes_before(w, is_last ? least(k1 + kStep, w.k_padded) : k1), (tiles + 1) / 2);
      multiply_step(product, k0, k1, product.sums + p * product.sums_stride, next);
    }
  }
  _tile_release();
}

constexpr MatmulKernels kBfloat16Kernels = {.tile_rows = kTileRows,
                                            .arrange = arrange_bfloat16,
                                            .int_panels = bfloat16_panels,
                                            .float_panels = nullptr,
                                            .finish = finish,
                                            .multiply_peak = nullptr,
                                            .value_bytes = 2,
                                            .panels_at_once = kPanelsAtOnce};

}  // namespace

const MatmulKernels& bfloat16_matmul() {
  return kBfloat16Kernels;
}

}  // namespace mllm
#endif
