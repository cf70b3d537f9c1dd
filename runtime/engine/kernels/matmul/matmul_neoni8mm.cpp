// NEON with products of small matrices of bytes (most servers' cores since ARMv8.6): one row of activations
// by dot products of unsigned weights, as stored, with signed activations; more rows by 2 x 8 times 8 x 2.
#if defined(__aarch64__)
#include "kernels/matmul/lanes_neon.h"

namespace mllm {
namespace {

constexpr bool kDot8KeepsOffset = true;
constexpr bool kDot8IsWide = true;

inline VI dot8(VI sum, VI weights, int32_t activations) {
  return vusdotq_s32(sum, vreinterpretq_u8_s32(weights), repeat(activations));
}
inline VI dot8_wide(VI sum, VI weights, int32_t activations) {
  return dot8(sum, weights, activations);
}
inline VI dot4(VI sum, VI weights, int32_t activations) {
  return dot8(sum, weights, activations);
}

}  // namespace
}  // namespace mllm

#include "kernels/matmul/matmul_impl.h"

namespace mllm {
namespace {

// Four bytes of a, four of b, and so on: what a and b hold of the same columns or rows become eight
// consecutive k.
inline uint8x16_t join_low(uint8x16_t a, uint8x16_t b) {
  return vreinterpretq_u8_u32(vzip1q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}
inline uint8x16_t join_high(uint8x16_t a, uint8x16_t b) {
  return vreinterpretq_u8_u32(vzip2q_u32(vreinterpretq_u32_u8(a), vreinterpretq_u32_u8(b)));
}

// Four k of two rows, or of the last one.
template <bool Two>
inline uint8x16_t load_rows(const int8_t* x) {
  if constexpr (Two) {
    return vcombine_u8(vld1_u8(reinterpret_cast<const uint8_t*>(x)), vdup_n_u8(0));
  } else {
    return vreinterpretq_u8_u32(vsetq_lane_u32(static_cast<uint32_t>(four_bytes(x)), vdupq_n_u32(0), 0));
  }
}

// What becomes of a group's integer sums: times the weights' scales they join those of their span, and a
// whole span times the activations' scale joins the product.
template <bool Scaled>
inline void end_group(V value, V factor, V scale, bool is_first, bool is_last, float* span, float* sum) {
  if (Scaled) {
    value = fma(value, factor, is_first ? zero() : load(span));
    if (!is_last) return store(span, value);
  }
  store(sum, fma(value, scale, load(sum)));
}

// As int_tile, with an accumulator for each pair of rows and pair of columns.
template <int R, bool Scaled>
void matrix_tile(const IntTile& t) {
  constexpr int kPairs = (R + 1) / 2;
  constexpr int64_t kVectors = kBlockVectors;
  const WeightView& w = *t.w;
  float spans[R * kVectors * kLanes];
  for (int64_t s = t.span0; s < t.span1; ++s) {
    const int64_t span_end = least(s * w.span + w.span, w.k_padded);
    for (int64_t begin = s * w.span; begin < span_end; begin += w.group) {
      const int64_t g = begin / w.group;
      const int64_t size = least(w.group, span_end - begin);
      const uint8_t* p = t.block[0] + begin * kBlockColumns;
      const int8_t* x = t.x + begin * R;
      VI acc[kPairs][2 * kVectors];
#pragma GCC unroll 3
      for (int r = 0; r < kPairs; ++r) {
#pragma GCC unroll 8
        for (int c = 0; c < 2 * kVectors; ++c) acc[r][c] = splat_int(0);
      }
      for (int64_t i = 0; i < size; i += 8, p += 128, x += 8 * R) {
        int8x16_t rows[kPairs];
#pragma GCC unroll 3
        for (int r = 0; r < R / 2; ++r) {
          rows[r] =
              vreinterpretq_s8_u8(join_low(load_rows<true>(x + 8 * r), load_rows<true>(x + 4 * R + 8 * r)));
        }
        if constexpr (R % 2 != 0) {
          const int8_t* last = x + 4 * (R - 1);
          rows[kPairs - 1] =
              vreinterpretq_s8_u8(join_low(load_rows<false>(last), load_rows<false>(last + 4 * R)));
        }
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) {
          const uint8x16_t a = vld1q_u8(p + 16 * c);
          const uint8x16_t b = vld1q_u8(p + 64 + 16 * c);
          const uint8x16_t low = join_low(a, b);
          const uint8x16_t high = join_high(a, b);
#pragma GCC unroll 3
          for (int r = 0; r < kPairs; ++r) {
            acc[r][2 * c] = vusmmlaq_s32(acc[r][2 * c], low, rows[r]);
            acc[r][2 * c + 1] = vusmmlaq_s32(acc[r][2 * c + 1], high, rows[r]);
          }
        }
      }
      const bool is_first = begin == s * w.span;
      const bool is_last = begin + w.group >= span_end;
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const V scale = splat(t.x_scales ? t.x_scales[s * R + r] : 0.0f);
        const int32_t correction = t.x_corrections[g * R + r];
#pragma GCC unroll 4
        for (int c = 0; c < kVectors; ++c) {
          const VI low = acc[r / 2][2 * c];
          const VI high = acc[r / 2][2 * c + 1];
          const VI start = t.zeros ? zero_sums(t, g, c, correction) : splat_int(correction);
          const VI total = add_int(r % 2 == 0 ? vuzp1q_s32(low, high) : vuzp2q_s32(low, high), start);
          if (!Scaled && t.x_scales == nullptr) {
            add_integers(total, t.sums + r * kPanelColumns + c * kLanes);
            continue;
          }
          const V factor = Scaled ? load(t.scales + g * kPanelColumns + c * kLanes) : zero();
          end_group<Scaled>(to_float(total), factor, scale, is_first, is_last,
                            spans + (r * kVectors + c) * kLanes, t.sums + r * kPanelColumns + c * kLanes);
        }
      }
    }
  }
}

template <int R>
void matrix_tile_with_rows(const IntTile& t) {
  if (t.scales) {
    matrix_tile<R, true>(t);
  } else {
    matrix_tile<R, false>(t);
  }
}

void matrix_tile_of(int64_t rows, const IntTile& t) {
  if (rows == kRows) return matrix_tile_with_rows<kRows>(t);
  if (rows == 4) return matrix_tile_with_rows<4>(t);
  if (rows == 2) return matrix_tile_with_rows<2>(t);
  matrix_tile_with_rows<1>(t);
}

int64_t matrix_peak(int64_t rounds) {
  constexpr int kChains = 12;  // more than latency times throughput
  VI acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = splat_int(i);
  const uint8x16_t weights = vdupq_n_u8(static_cast<uint8_t>(rounds));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = vusmmlaq_s32(acc[i], weights, vdupq_n_s8(1));
  }
  int32_t keep = 0;
  for (int i = 0; i < kChains; ++i) keep += sum_int(acc[i]);
  asm volatile("" : : "r"(keep));
  return rounds * kChains * 32;
}

void matrix_panels(const PanelProduct& product) {
  int_panels_with<matrix_tile_of, matrix_tile_of>(product, *product.weights);
}

constexpr MatmulKernels kWideMatrix = {
    kRows, arrange_wide_with<arrange_ints>, wide_panels_with<matrix_tile_of>, nullptr, finish, nullptr};
constexpr MatmulKernels kMatrixKernels = {.tile_rows = kRows,
                                          .arrange = arrange,
                                          .int_panels = matrix_panels,
                                          .float_panels = float_panels,
                                          .finish = finish,
                                          .multiply_peak = matrix_peak,
                                          .wide = &kWideMatrix};

}  // namespace

const MatmulKernels& neoni8mm_matmul() {
  return kMatrixKernels;
}

}  // namespace mllm
#endif
