// The loops behind MatmulKernels, written once over small vector types. A file that includes this first
// defines, in an unnamed namespace:
//
// - V, VI: vectors of kLanes floats, of kLanes int32 (which also hold 4 * kLanes bytes).
// - Floats: zero(), splat(float), load(const float*), load(const uint16_t*) for float16, load(const int8_t*)
//   for integers, store(float*, V), store_part(float*, V, count), fma(a, b, c) = a * b + c, mul(a, b), add(a,
//   b), absolute(V), reduce_max(V), and maximum(a, b), which returns b where a is NaN.
// - Integers: load_bytes(const uint8_t*), store_bytes(uint8_t*, VI), splat_int(int32), add_int(a, b),
//   add_bytes(a, b), to_float(VI), round_to_int(V) to nearest even, sum_int(VI), store_int8(int8_t*, VI) with
//   saturation, low_nibbles(VI) and high_nibbles(VI) of each byte, and bytes_to_float(VI, i): byte i (0 to 3)
//   of each 32-bit lane, unsigned. scale_shorts(VI, VI): signed 16-bit products / 2^15, rounded to nearest.
// - dot8(VI sum, VI weights, int32 activations): sum plus, per lane, the dot product of 4 activations (int8)
//   with 4 weights that are stored + 128. When kDot8KeepsOffset, the result still has 128 times the sum of
//   the activations in it. dot4 is the same for weights of 0 to 15, taken as they are. Activations are within
//   ±127, with dot8_wide within -128 … 127; kDot8IsWide when the two are the same.
// - prefetch(const void*).
// - kRows, kBlocks: the largest tile of the products, in rows (at least 4) and blocks of 16 columns (1 or 2).
//
// No include guard is needed: each instruction set's file includes it exactly once. Everything stays in the
// unnamed namespace, so that the linker cannot mix versions.

namespace mllm {
namespace {

constexpr int64_t kBlockVectors = kBlockColumns / kLanes;
constexpr int64_t kPanelVectors = kPanelColumns / kLanes;
constexpr int64_t kTileVectors = kBlocks * kBlockVectors;

inline int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

inline int32_t four_bytes(const int8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return word;
}

// ---- Activations.

// The largest magnitude of some elements. Lanes of `poison`, which is 0 before the first elements of a row,
// become NaN where one of them is NaN or infinite: such a row must not pass as a number.
inline float magnitude(const float* x, int64_t count, V& poison) {
  V largest[2] = {zero(), zero()};
  V bad[2] = {poison, zero()};
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    for (int64_t j = 0; j < 2; ++j) {
      const V v = load(x + i + j * kLanes);
      largest[j] = maximum(absolute(v), largest[j]);
      bad[j] = fma(v, zero(), bad[j]);
    }
  }
  for (; i < count; i += kLanes) {
    float tail[kLanes] = {};
    for (int64_t j = 0; j < least(kLanes, count - i); ++j) tail[j] = x[i + j];
    largest[0] = maximum(absolute(load(tail)), largest[0]);
    bad[0] = fma(load(tail), zero(), bad[0]);
  }
  poison = add(bad[0], bad[1]);
  return reduce_max(maximum(largest[0], largest[1]));
}

inline float sum_lanes(V v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int64_t n = kLanes / 2; n > 0; n /= 2) {
    for (int64_t j = 0; j < n; ++j) lanes[j] += lanes[j + n];
  }
  return lanes[0];
}

// x * factor as integers; `padded` is a multiple of 64.
void round_span(const float* x, int64_t count, int64_t padded, float factor, int8_t* q) {
  const V f = splat(factor);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store_int8(q + i, round_to_int(mul(load(x + i), f)));
  if (i < count) {
    float tail[kLanes] = {};
    for (int64_t j = 0; i + j < count; ++j) tail[j] = x[i + j];
    store_int8(q + i, round_to_int(mul(load(tail), f)));
    i += kLanes;
  }
  for (; i < padded; i += kLanes) store_int8(q + i, splat_int(0));
}

// x * factor + offset, which may be beyond int8, as integers within -128 … 127.
void round_span_within(const float* x, int64_t count, int64_t padded, float factor, float offset, int8_t* q) {
  alignas(64) float part[kSpan];
  const V minus = splat(-1.0f), lowest = splat(-128.0f), highest = splat(-127.0f);
  for (int64_t i = 0; i < padded; ++i) part[i] = i < count ? x[i] : 0.0f;
  for (int64_t i = 0; i < padded; i += kLanes) {
    const V above = maximum(add(mul(load(part + i), splat(factor)), splat(offset)), lowest);
    store(part + i, mul(maximum(mul(above, minus), highest), minus));
  }
  round_span(part, count, padded, 1.0f, q);
}

// What makes the largest magnitude 127.
inline float factor_of(float top) {
  return top > 0.0f ? 127.0f / top : 0.0f;
}

// A row on its way to integers, span after span.
class RowQuantizer {
 public:
  RowQuantizer() = default;
  // Row r of a tile of tile_rows.
  RowQuantizer(const ActivationTile& t, int64_t r, int64_t tile_rows)
      : t_(&t), r_(r), tile_rows_(tile_rows), x_(t.x + r * t.x_stride) {
    if (t.row_scales == nullptr) return;
    const float top = magnitude(x_, t.weights->k, poison_);
    factor_ = factor_of(top);
    t.row_scales[r] = (t.factor > 0.0f ? 1.0f : top / 127.0f) + sum_lanes(poison_);
  }

  // The `padded` values from input `begin` on, which is a span's first; its scale is stored.
  void span(int64_t begin, int64_t padded, int8_t* values) {
    const WeightView& w = *t_->weights;
    const float* x = x_ + begin;
    const int64_t count = least(w.k - begin, padded);
    if (t_->factor > 0.0f) return round_span_within(x, count, padded, t_->factor, t_->zero, values);
    if (t_->row_scales) return round_span(x, count, padded, factor_, values);
    const float top = magnitude(x, count, poison_);
    t_->scales[begin / w.span * tile_rows_ + r_] = top / 127.0f;
    round_span(x, count, padded, factor_of(top), values);
  }

  // After the last span.
  void end() const {
    if (t_->scales) t_->scales[(t_->weights->spans - 1) * tile_rows_ + r_] += sum_lanes(poison_);
  }

 private:
  const ActivationTile* t_ = nullptr;
  int64_t r_ = 0, tile_rows_ = 0;
  const float* x_ = nullptr;
  float factor_ = 0.0f;
  V poison_ = zero();
};

// Inputs of span s, with the padding.
inline int64_t padded_span(const WeightView& w, int64_t s) {
  return least(w.span, w.k_padded - s * w.span);
}

// -128 times the sums of a row's values, per group of the weights.
void correct_row(const ActivationTile& t, int64_t r, int64_t tile_rows, int64_t begin, int64_t padded,
                 const int8_t* row) {
  const int64_t group = t.weights->group;
  for (int64_t i = 0; i < padded; i += group) {
    int32_t sum = 0;
    const int64_t end = least(i + group, padded);
    for (int64_t j = i; j < end; ++j) sum += row[j];
    t.corrections[(begin + i) / group * tile_rows + r] = -128 * sum;
  }
}

void arrange_ints(const ActivationTile& t) {
  constexpr int64_t kMostRows = kRows > 8 ? kRows : 8;
  alignas(64) int8_t buffer[kMostRows][kWideSpan];
  const WeightView& w = *t.weights;
  const int64_t rows = t.rows;
  RowQuantizer quantizers[kMostRows];
  for (int64_t r = 0; r < rows; ++r) quantizers[r] = RowQuantizer(t, r, rows);
  // All rows of a span before the next span: the rows become one stream.
  for (int64_t s = 0; s < w.spans; ++s) {
    const int64_t begin = s * w.span;
    const int64_t padded = padded_span(w, s);
    int8_t* to = t.values + begin * rows;
    for (int64_t r = 0; r < rows; ++r) {
      int8_t* row = rows == 1 ? to : buffer[r];  // then there is nothing to interleave
      quantizers[r].span(begin, padded, row);
      correct_row(t, r, rows, begin, padded, row);
    }
    if (rows == 1) continue;
    for (int64_t i = 0; i < padded; i += 4) {
      if (rows == kRows) {  // a count that the compiler knows
#pragma GCC unroll 12
        for (int64_t r = 0; r < kRows; ++r) __builtin_memcpy(to + r * 4, buffer[r] + i, 4);
      } else {
        for (int64_t r = 0; r < rows; ++r) __builtin_memcpy(to + r * 4, buffer[r] + i, 4);
      }
      to += 4 * rows;
    }
  }
  for (int64_t r = 0; r < rows; ++r) quantizers[r].end();
}

void arrange_floats(const ActivationTile& t) {
  for (int64_t r = 0; r < t.rows; ++r) {
    const float* x = t.x + r * t.x_stride;
    for (int64_t i = 0; i < t.weights->k; ++i) t.floats[i * t.rows + r] = x[i];
  }
}

void arrange(const ActivationTile& t) {
  if (t.floats) {
    arrange_floats(t);
  } else {
    arrange_ints(t);
  }
}

// ---- Integer products.

inline V group_scales(const WeightView& w, const uint8_t* p, int64_t vector) {
  return w.group_scale == GroupScale::Float16 ? load(reinterpret_cast<const uint16_t*>(p) + vector * kLanes)
                                              : load(reinterpret_cast<const float*>(p) + vector * kLanes);
}

inline int64_t scale_bytes(const WeightView& w) {
  return w.group_scale == GroupScale::None ? 0 : w.group_scale == GroupScale::Float16 ? 32 : 64;
}

inline int64_t trailer_bytes(const WeightView& w) {
  return scale_bytes(w) + (w.has_zeros ? kBlockColumns : 0);
}

// Zero points, which follow `skip` bytes of scales at p.
inline V group_zeros(const uint8_t* p, int64_t skip, int64_t vector) {
  return load(reinterpret_cast<const int8_t*>(p + skip) + vector * kLanes);
}

template <bool Wide>
inline VI dot8_of(VI sum, VI weights, int32_t activations) {
  return Wide ? dot8_wide(sum, weights, activations) : dot8(sum, weights, activations);
}

// One row times one block of weights. `multiply` walks over the inputs of a group and gives their integer
// sums, without zero points.
template <bool Zeros, bool Integers, class Multiply>
inline void row_block(const WeightView& w, const uint8_t* p, const ActivationView& a, float* sums,
                      const Multiply& multiply) {
  V total[kBlockVectors];
  VI integers[kBlockVectors];
#pragma GCC unroll 8
  for (int64_t v = 0; v < kBlockVectors; ++v) {
    total[v] = zero();
    integers[v] = splat_int(0);
  }
  const int8_t* x = a.values;
  const int32_t* corrections = a.corrections;
  const int64_t skip = scale_bytes(w);
  for (int64_t s = 0; s < w.spans; ++s) {
    const int64_t end = least(w.span, w.k_padded - s * w.span);
    V span[kBlockVectors];
    for (V& v : span) v = zero();
    for (int64_t g = 0; g < end; g += w.group, ++corrections) {
      const int64_t size = least(w.group, end - g);
      VI group[kBlockVectors];
      multiply(size, *corrections, p, x, group);
      if (Integers) {
#pragma GCC unroll 8
        for (int64_t v = 0; v < kBlockVectors; ++v) integers[v] = add_int(integers[v], group[v]);
        continue;
      }
      if (skip) prefetch(p + w.ahead);
      const V minus_sum = Zeros ? splat(static_cast<float>(*corrections / 128)) : zero();
#pragma GCC unroll 8
      for (int64_t v = 0; v < kBlockVectors; ++v) {
        V sum = to_float(group[v]);
        if (Zeros) sum = fma(group_zeros(p, skip, v), minus_sum, sum);  // whole numbers below 2^24
        span[v] = skip ? fma(sum, group_scales(w, p, v), span[v]) : add(sum, span[v]);
      }
      p += skip + (Zeros ? kBlockColumns : 0);
    }
    if (Integers) continue;
    const V scale = splat(a.scales[s]);
#pragma GCC unroll 8
    for (int64_t v = 0; v < kBlockVectors; ++v) total[v] = fma(span[v], scale, total[v]);
  }
#pragma GCC unroll 8
  for (int64_t v = 0; v < kBlockVectors; ++v) {
    if (Integers) {
      store_bytes(reinterpret_cast<uint8_t*>(sums + v * kLanes), integers[v]);
    } else {
      store(sums + v * kLanes, total[v]);
    }
  }
}

template <bool Zeros, bool Integers, bool Wide>
void row_block_int8(const WeightView& w, const uint8_t* block, const ActivationView& a, float* sums) {
  row_block<Zeros, Integers>(
      w, block, a, sums,
      [ahead = w.ahead](int64_t size, int32_t correction, const uint8_t*& p, const int8_t*& x, VI* group)
          __attribute__((always_inline)) {
            // Two chains per vector hide the latency of the dot product.
            VI even[kBlockVectors], odd[kBlockVectors];
#pragma GCC unroll 8
            for (int64_t v = 0; v < kBlockVectors; ++v) {
              even[v] = splat_int(kDot8KeepsOffset ? correction : 0);
              odd[v] = splat_int(0);
            }
            for (int64_t i = 0; i < size; i += 8, p += 128, x += 8) {
              prefetch(p + ahead);
              prefetch(p + ahead + 64);
#pragma GCC unroll 8
              for (int64_t v = 0; v < kBlockVectors; ++v) {
                even[v] = dot8_of<Wide>(even[v], load_bytes(p + v * kLanes * 4), four_bytes(x));
                odd[v] = dot8_of<Wide>(odd[v], load_bytes(p + 64 + v * kLanes * 4), four_bytes(x + 4));
              }
            }
#pragma GCC unroll 8
            for (int64_t v = 0; v < kBlockVectors; ++v) group[v] = add_int(even[v], odd[v]);
          });
}

template <bool Zeros>
void row_block_int4(const WeightView& w, const uint8_t* block, const ActivationView& a, float* sums) {
  row_block<Zeros, false>(w, block, a, sums,
                          [ahead = w.ahead](int64_t size, int32_t correction, const uint8_t*& p,
                                            const int8_t*& x, VI* group) __attribute__((always_inline)) {
                            VI low[kBlockVectors], high[kBlockVectors];
#pragma GCC unroll 8
                            for (int64_t v = 0; v < kBlockVectors; ++v) {
                              low[v] = splat_int(correction / 16);  // -8 times the sum
                              high[v] = splat_int(0);
                            }
                            for (int64_t i = 0; i < size; i += 32, p += 256, x += 32) {
#pragma GCC unroll 4
                              for (int64_t j = 0; j < 4; ++j) {
                                prefetch(p + ahead + j * 64);
#pragma GCC unroll 8
                                for (int64_t v = 0; v < kBlockVectors; ++v) {
                                  const VI bytes = load_bytes(p + j * 64 + v * kLanes * 4);
                                  low[v] = dot4(low[v], low_nibbles(bytes), four_bytes(x + 4 * j));
                                  high[v] = dot4(high[v], high_nibbles(bytes), four_bytes(x + 16 + 4 * j));
                                }
                              }
                            }
#pragma GCC unroll 8
                            for (int64_t v = 0; v < kBlockVectors; ++v) group[v] = add_int(low[v], high[v]);
                          });
}

using RowBlock = void (*)(const WeightView&, const uint8_t*, const ActivationView&, float*);

RowBlock row_block_of(const WeightView& w, const ActivationView& a) {
  if (w.format == WeightFormat::Int4) return w.has_zeros ? row_block_int4<true> : row_block_int4<false>;
  if (a.scales == nullptr) {
    return a.has_lowest && !kDot8IsWide ? row_block_int8<false, true, true>
                                        : row_block_int8<false, true, false>;
  }
  return w.has_zeros ? row_block_int8<true, false, false> : row_block_int8<false, false, false>;
}

// An int8 panel, [block][k_padded/4][16][4], with the scales and zero points of its groups.
struct IntPanel {
  const uint8_t* block[2];
  const float* scales;  // [groups][32] or null
  const float* zeros;   // the same, plus the `offset` of unpack()
};

// Bytes of a block before input k, which begins a group.
inline int64_t bytes_before(const WeightView& w, int64_t k) {
  const int64_t inputs = w.format == WeightFormat::Int4 ? k * kBlockColumns / 2 : k * kBlockColumns;
  return inputs + (k + w.group - 1) / w.group * trailer_bytes(w);
}

inline void add_to_bytes(const uint8_t* from, int64_t count, VI shift, uint8_t* to) {
  for (int64_t i = 0; i < count; i += kLanes * 4) store_bytes(to + i, add_bytes(load_bytes(from + i), shift));
}

// Inputs k0 … k1-1, whole spans, of both blocks of a panel as bytes, for products that use them many times,
// at their places in scratch memory for the panel. `shift` is added in each byte: to q + 8 of int4, q + 128
// of int8.
IntPanel unpack(const WeightView& w, int64_t panel, int64_t k0, int64_t k1, VI shift, float offset,
                void* scratch) {
  auto* bytes = static_cast<uint8_t*>(scratch);
  auto* scales = reinterpret_cast<float*>(bytes + kPanelColumns * w.k_padded);
  float* zeros = scales + w.groups * kPanelColumns;
  const int64_t skip = scale_bytes(w);
  for (int64_t b = 0; b < 2; ++b) {
    const uint8_t* p = w.blocks + (2 * panel + b) * w.block_bytes + bytes_before(w, k0);
    uint8_t* to = bytes + (b * w.k_padded + k0) * kBlockColumns;
    for (int64_t k = k0, g = k0 / w.group, size = 0; k < k1; k += size, ++g) {
      size = least(w.group, k1 - k);
      if (w.format == WeightFormat::Int8) {
        add_to_bytes(p, size * kBlockColumns, shift, to);
        p += size * kBlockColumns;
        to += size * kBlockColumns;
      } else {
        for (int64_t i = 0; i < size; i += 32, p += 256, to += 512) {
          for (int64_t v = 0; v < 4 * kBlockVectors; ++v) {
            const VI pairs = load_bytes(p + v * kLanes * 4);
            store_bytes(to + v * kLanes * 4, add_bytes(low_nibbles(pairs), shift));
            store_bytes(to + 256 + v * kLanes * 4, add_bytes(high_nibbles(pairs), shift));
          }
        }
      }
      for (int64_t v = 0; v < kBlockVectors; ++v) {
        const int64_t at = g * kPanelColumns + b * kBlockColumns + v * kLanes;
        if (skip) store(scales + at, group_scales(w, p, v));
        if (w.has_zeros) store(zeros + at, add(group_zeros(p, skip, v), splat(offset)));
      }
      p += trailer_bytes(w);
    }
  }
  return {
      {bytes, bytes + kBlockColumns * w.k_padded}, skip ? scales : nullptr, w.has_zeros ? zeros : nullptr};
}

struct IntTile {
  const WeightView* w;
  const uint8_t* block[2];       // of the columns of this tile, from k = 0
  const float* scales;           // of the first column, [groups][32], or null
  const float* zeros;            // the same, plus 128 where dot8 keeps that offset
  const int8_t* x;               // of the tile's rows, from k = 0
  const float* x_scales;         // [spans][R]; null: sums are integers
  const int32_t* x_corrections;  // [groups][R]
  float* sums;                   // [R][32]
  int64_t span0, span1;
  int64_t ahead;  // how many bytes before their use weights are asked for
};

// Integers join integers.
inline void add_integers(VI value, float* sum) {
  auto* to = reinterpret_cast<uint8_t*>(sum);
  store_bytes(to, add_int(load_bytes(to), value));
}

// What the zero points of vector v take from a group's sums of a row: (zero + offset) times minus the sum of
// its activations, a whole number below 2^24.
inline VI zero_sums(const IntTile& t, int64_t g, int64_t v, int32_t correction) {
  return round_to_int(
      mul(load(t.zeros + g * kPanelColumns + v * kLanes), splat(static_cast<float>(correction / 128))));
}

// The integer sums of rows r0 … r0+R-1, of a tile of `Rows`, over the inputs begin … end-1, group g, kSteps
// times four of them at once. Ahead: weights are asked for t.ahead bytes before their use.
template <int R, int Rows, int kSteps, bool Wide, bool Ahead>
__attribute__((always_inline)) inline void multiply_group(const IntTile& t, int64_t g, int64_t begin,
                                                          int64_t end, int64_t r0,
                                                          VI (&acc)[R][kTileVectors]) {
  const uint8_t* p[kBlocks];
  for (int64_t b = 0; b < kBlocks; ++b) p[b] = t.block[b] + begin * kBlockColumns;
  const int8_t* x = t.x + begin * Rows + 4 * r0;
  const int32_t* corrections = t.x_corrections + g * Rows + r0;
  if (t.zeros) {
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int64_t v = 0; v < kTileVectors; ++v) acc[r][v] = zero_sums(t, g, v, corrections[r]);
    }
  } else {
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const VI start = splat_int(kDot8KeepsOffset ? corrections[r] : 0);
#pragma GCC unroll 8
      for (int64_t v = 0; v < kTileVectors; ++v) acc[r][v] = start;
    }
  }
  // A loop that the compiler knows to run: else it keeps all sums in memory as well.
  const int64_t size = end - begin;
  int64_t i = 0;
  do {
#pragma GCC unroll 8
    for (int step = 0; step < kSteps; ++step, i += 4, x += 4 * Rows) {
      VI weights[kTileVectors];
      if (Ahead) {
#pragma GCC unroll 2
        for (int64_t b = 0; b < kBlocks; ++b) prefetch(p[b] + i * kBlockColumns + t.ahead);
      }
#pragma GCC unroll 8
      for (int64_t v = 0; v < kTileVectors; ++v) {
        weights[v] = load_bytes(p[v / kBlockVectors] + i * kBlockColumns + (v % kBlockVectors) * kLanes * 4);
      }
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const int32_t four = four_bytes(x + 4 * r);
#pragma GCC unroll 8
        for (int64_t v = 0; v < kTileVectors; ++v) acc[r][v] = dot8_of<Wide>(acc[r][v], weights[v], four);
      }
    }
  } while (i < size);
}

// Without scales of groups, of which each is a whole span then.
template <int R, bool Wide>
void int_tile(const IntTile& t) {
  const WeightView& w = *t.w;
  int64_t g = t.span0 * w.span / w.group;
  for (int64_t s = t.span0; s < t.span1; ++s) {
    const int64_t span_end = least(s * w.span + w.span, w.k_padded);
    for (int64_t begin = s * w.span; begin < span_end; begin += w.group, ++g) {
      VI acc[R][kTileVectors];
      multiply_group<R, R, 1, Wide, true>(t, g, begin, least(begin + w.group, span_end), 0, acc);
      if (t.x_scales == nullptr) {
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
          for (int64_t v = 0; v < kTileVectors; ++v)
            add_integers(acc[r][v], t.sums + r * kPanelColumns + v * kLanes);
        }
        continue;
      }
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) {
        const V scale = splat(t.x_scales[s * R + r]);
#pragma GCC unroll 8
        for (int64_t v = 0; v < kTileVectors; ++v) {
          float* sum = t.sums + r * kPanelColumns + v * kLanes;
          store(sum, fma(to_float(acc[r][v]), scale, load(sum)));
        }
      }
    }
  }
}

// Whether tiles with scales of groups are multiplied in halves, so that a span's sums of floats stay in
// registers beside a group's of integers. Worth it where a dot product is one instruction: others share work
// between rows.
constexpr bool kHalvesGroupedTiles = kLanes == 16 && kDot8KeepsOffset;

// With scales of groups: sums of a group times these join those of its span. Rows r0 … r0+R-1 of a tile of
// `Rows`.
template <int R, int Rows>
void grouped_rows(const IntTile& t, int64_t r0) {
  // Groups are so short that ends of loops cost a tenth of the time.
  constexpr int kSteps = kHalvesGroupedTiles && Rows == kRows ? 8 : 1;
  const WeightView& w = *t.w;
  int64_t g = t.span0 * w.span / w.group;
  for (int64_t s = t.span0; s < t.span1; ++s) {
    const int64_t span_end = least(s * w.span + w.span, w.k_padded);
    V span[R][kTileVectors];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int64_t v = 0; v < kTileVectors; ++v) span[r][v] = zero();
    }
    int64_t begin = s * w.span;
    do {  // as in multiply_group()
      VI acc[R][kTileVectors];
      multiply_group<R, Rows, kSteps, false, false>(t, g, begin, least(begin + w.group, span_end), r0, acc);
#pragma GCC unroll 8
      for (int64_t v = 0; v < kTileVectors; ++v) {
        const V factor = load(t.scales + g * kPanelColumns + v * kLanes);
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) span[r][v] = fma(to_float(acc[r][v]), factor, span[r][v]);
      }
      ++g;
    } while ((begin += w.group) < span_end);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const V scale = splat(t.x_scales[s * Rows + r0 + r]);
#pragma GCC unroll 8
      for (int64_t v = 0; v < kTileVectors; ++v) {
        float* sum = t.sums + (r0 + r) * kPanelColumns + v * kLanes;
        store(sum, fma(span[r][v], scale, load(sum)));
      }
    }
  }
}

template <int R, bool Wide>
void int_tile_with_rows(const IntTile& t) {
  if (Wide || !t.scales) return int_tile<R, Wide>(t);
  constexpr int kRowsAtOnce = kHalvesGroupedTiles && R > kRows / 2 ? R / 2 : R;
  for (int64_t r0 = 0; r0 < R; r0 += kRowsAtOnce) grouped_rows<kRowsAtOnce, R>(t, r0);
}

// Tiles of the sizes that tile_size() gives.
template <bool Wide>
void int_tile_of(int64_t rows, const IntTile& t) {
  if (rows == kRows) return int_tile_with_rows<kRows, Wide>(t);
  if constexpr (kRows > 8) {
    if (rows == 8) return int_tile_with_rows<8, Wide>(t);
  }
  if (rows == 4) return int_tile_with_rows<4, Wide>(t);
  if (rows == 2) return int_tile_with_rows<2, Wide>(t);
  int_tile_with_rows<1, Wide>(t);
}

// Asks for what is used next, a share at a time, while something else is computed: the same piece of both
// blocks of a panel.
class ReadAhead {
 public:
  ReadAhead() = default;
  ReadAhead(const WeightView& w, int64_t panel, int64_t begin, int64_t end, int64_t shares)
      : at_(w.blocks + 2 * panel * w.block_bytes + begin),
        second_(at_ + w.block_bytes),
        bytes_(end - begin),
        left_(2 * bytes_),
        share_((left_ / shares + 63) / 64 * 64) {}

  __attribute__((always_inline)) void share() {
    for (int64_t i = 0; i < share_ && left_ > 0; i += 64, at_ += 64, left_ -= 64) {
      if (left_ <= bytes_ && second_) {
        at_ = second_;
        second_ = nullptr;
      }
      __builtin_prefetch(at_, 0, 2);  // to the second-level cache
    }
  }

 private:
  const uint8_t* at_ = nullptr;
  const uint8_t* second_ = nullptr;
  int64_t bytes_ = 0, left_ = 0, share_ = 0;
};

// int8 without anything between its groups is multiplied as it is stored; other weights are unpacked.
inline bool is_multiplied_in_place(const WeightView& w) {
  return w.format == WeightFormat::Int8 && trailer_bytes(w) == 0;
}

// The tiles of all rows, by any functions that multiply one, and one with activations of -128. `w` are the
// weights as the tiles are to see them, prepare(panel, begin, end) gives the bytes of a panel for spans begin
// … end-1.
using TileProduct = void (*)(int64_t rows, const IntTile&);
template <TileProduct tile_of, TileProduct wide_tile_of, class Prepare>
void int_tiles(const PanelProduct& product, const WeightView& w, const Prepare& prepare) {
  const ActivationView& a = *product.activations;
  for (int64_t p = 0; p < product.panels; ++p) {
    float* sums = product.sums + p * product.sums_stride;
    for (int64_t i = 0; i < a.rows * kPanelColumns; i += kLanes) store(sums + i, zero());
  }
  // As much of a panel at a time as stays in the first-level cache beside the activations of a tile: 16 to 32
  // KiB.
  const int64_t step = 1024 / w.span / (3 - kBlocks);
  const int64_t tiles = (a.rows + kRows - 1) / kRows * (2 / kBlocks);
  const bool in_place = is_multiplied_in_place(*product.weights);
  for (int64_t s = 0; s < w.spans; s += step) {
    const int64_t end = least(s + step, w.spans);
    for (int64_t p = 0; p < product.panels; ++p) {
      const IntPanel panel = prepare(product.panel + p, s, end);
      // To be unpacked next: the same inputs of the next panel, or those behind them of the first one, or
      // then the panel that follows in memory.
      const bool is_last = p + 1 == product.panels;
      const int64_t s_next = !is_last ? s : end < w.spans ? end : 0;
      const int64_t p_next = !is_last ? p + 1 : end < w.spans ? 0 : product.panels;
      ReadAhead next(w, product.panel + p_next, bytes_before(*product.weights, s_next * w.span),
                     bytes_before(*product.weights, least((s_next + step) * w.span, w.k_padded)), tiles);
      float* sums = product.sums + p * product.sums_stride;
      for (int64_t c = 0; c < 2; c += kBlocks) {
        for (int64_t r = 0, rows = 0; r < a.rows; r += rows) {
          rows = tile_size(kRows, a.rows - r);
          const IntTile tile{.w = &w,
                             .block = {panel.block[c], panel.block[1]},
                             .scales = panel.scales ? panel.scales + c * kBlockColumns : nullptr,
                             .zeros = panel.zeros ? panel.zeros + c * kBlockColumns : nullptr,
                             .x = a.values + r * w.k_padded,
                             .x_scales = a.scales ? a.scales + r * product.weights->spans : nullptr,
                             .x_corrections = a.corrections + r * product.weights->groups,
                             .sums = sums + r * kPanelColumns + c * kBlockColumns,
                             .span0 = s,
                             .span1 = end,
                             // The first tile brings them from memory.
                             .ahead = in_place && r == 0 ? kReadAheadBytes : 0};
          if (!in_place) next.share();
          a.has_lowest ? wide_tile_of(rows, tile) : tile_of(rows, tile);
        }
      }
    }
  }
}

inline IntPanel stored_panel(const WeightView& w, int64_t panel) {
  const uint8_t* first = w.blocks + 2 * panel * w.block_bytes;
  return {{first, first + w.block_bytes}, nullptr, nullptr};
}

template <TileProduct tile_of, TileProduct wide_tile_of>
void int_panels_with(const PanelProduct& product, const WeightView& w) {
  const ActivationView& a = *product.activations;
  if (a.rows == 1) {
    // Block after block, as they stand in memory: one stream.
    const RowBlock multiply = row_block_of(w, a);
    for (int64_t b = 0; b < 2 * product.panels; ++b) {
      multiply(w, w.blocks + (2 * product.panel + b) * w.block_bytes, a,
               product.sums + b / 2 * product.sums_stride + b % 2 * kBlockColumns);
    }
    return;
  }
  if (is_multiplied_in_place(w)) {
    return int_tiles<tile_of, wide_tile_of>(product, w,
                                            [&](int64_t p, int64_t, int64_t) { return stored_panel(w, p); });
  }
  // As int8 is stored, q + 128.
  const VI shift = splat_int(w.format == WeightFormat::Int8 ? 0 : 0x78787878);
  int_tiles<tile_of, wide_tile_of>(product, w, [&](int64_t p, int64_t begin, int64_t end) {
    return unpack(w, p, begin * w.span, least(end * w.span, w.k_padded), shift,
                  kDot8KeepsOffset ? 128.0f : 0.0f, product.scratch);
  });
}

void int_panels(const PanelProduct& product) {
  int_panels_with<int_tile_of<false>, int_tile_of<!kDot8IsWide>>(product, *product.weights);
}

// ---- Wide spans: int8 as it is, with a zero point for each column or without, int4 as int8 with one scale
// for all groups of a span. So the sums of a prompt leave integers every kWideSpan inputs, where groups would
// leave them every 32. Groups of int8 do, and only activations have a scale for the whole span.

// The weights as these products see them.
WeightView widened(const WeightView& w) {
  WeightView wide = w;
  wide.span = kWideSpan;
  wide.spans = (w.k_padded + kWideSpan - 1) / kWideSpan;
  if (w.format == WeightFormat::Int8 && w.group_scale != GroupScale::None) return wide;
  wide.group = wide.span;
  wide.groups = wide.spans;
  if (w.format == WeightFormat::Int4) wide.has_zeros = false;  // they become part of the weights
  return wide;
}

// Inputs k0 … k1-1, one span, of a block of int8 with zero points at p as [k/4][16][4] without what stands
// between its groups, each byte plus `shift`. The zero points, a column's the same in all groups, plus
// `offset` go to `zeros`.
void gather_wide(const WeightView& w, const uint8_t* p, int64_t k0, int64_t k1, VI shift, float offset,
                 uint8_t* to, float* zeros) {
  for (int64_t k = k0, size = 0; k < k1; k += size) {
    size = least(w.group, k1 - k);
    add_to_bytes(p, size * kBlockColumns, shift, to);
    p += size * kBlockColumns;
    to += size * kBlockColumns;
    if (k == k0) {
      for (int64_t v = 0; v < kBlockVectors; ++v) {
        store(zeros + v * kLanes, add(group_zeros(p, scale_bytes(w), v), splat(offset)));
      }
    }
    p += trailer_bytes(w);
  }
}

typedef uint16_t Shorts __attribute__((vector_size(sizeof(VI))));
typedef uint32_t Words __attribute__((vector_size(sizeof(VI))));

inline Shorts splat_short(uint16_t i) {
  return reinterpret_cast<Shorts>(splat_int(static_cast<int32_t>(0x10001u * i)));
}

// Both halves of each 32-bit lane, as 16-bit integers.
inline Shorts twice(V v) {
  const auto i = reinterpret_cast<Words>(round_to_int(v));
  return reinterpret_cast<Shorts>((i << 16) | (i & 0xffffu));
}

// one / v, and 0 where v is 0.
inline V inverse_of(V v, float one) {
  const auto quotient = reinterpret_cast<Words>(splat(one) / v);
  return reinterpret_cast<V>(quotient & reinterpret_cast<Words>(v != zero()));
}

// 16-bit products keep their upper halves, rounded: (q * 64) * (ratio * 512) / 2^15 is q * ratio. No zero
// point is beyond ±128, so that both factors fit.
constexpr uint16_t kNibbleOne = 64;
constexpr float kRatioOne = 512.0f;

// The scales that the inputs k0 … k1-1, one span, of vector v of a block of int4 get as int8: the largest
// possible weight of a column becomes ±127.
inline V span_scales(const WeightView& w, const uint8_t* p, int64_t k0, int64_t k1, int64_t v) {
  const int64_t skip = scale_bytes(w);
  V largest = zero();
  for (int64_t k = k0, size = 0; k < k1; k += size) {
    size = least(w.group, k1 - k);
    const uint8_t* trailer = p + size * kBlockColumns / 2;
    // q - zero is between -8 - zero and 7 - zero.
    V most = splat(8.0f);
    if (w.has_zeros) {
      const V z = group_zeros(trailer, skip, v);
      most = maximum(absolute(add(z, splat(8.0f))), absolute(add(z, splat(-7.0f))));
    }
    largest = maximum(skip ? mul(absolute(group_scales(w, trailer, v)), most) : most, largest);
    p = trailer + trailer_bytes(w);
  }
  const V scale = mul(largest, splat(1.0f / 127.0f));
  // Whole numbers stay as they are where they can.
  return skip ? scale : maximum(scale, splat(1.0f));
}

// Inputs k0 … k1-1, one span, of a block of int4 at p as int8 [k/4][16][4], each byte with its highest bit
// flipped where Flip (which adds 128); `scales` are those of the columns.
//
// (q - zero) * scale becomes an integer times the span's scale. Of a group with the largest scale the steps
// of int4 are 16 of int8 (8 with zero points): a rounding of a sixteenth of what int4 was rounded by, 0.4 %
// of its energy.
template <bool Flip>
void unpack_wide(const WeightView& w, const uint8_t* p, int64_t k0, int64_t k1, uint8_t* to, float* scales) {
  const int64_t skip = scale_bytes(w);
  for (int64_t v = 0; v < kBlockVectors; ++v) {
    const V scale = span_scales(w, p, k0, k1, v);
    store(scales + v * kLanes, scale);
    const V inverse = inverse_of(scale, kRatioOne);
    const uint8_t* at = p + v * kLanes * 4;
    uint8_t* row = to + v * kLanes * 4;
    for (int64_t k = k0, size = 0; k < k1; k += size) {
      size = least(w.group, k1 - k);
      const uint8_t* trailer = at - v * kLanes * 4 + size * kBlockColumns / 2;
      // Of a column's inputs: the ratio of scales, and what to subtract from q + 8.
      const Shorts ratio = twice(skip ? mul(group_scales(w, trailer, v), inverse) : inverse);
      const V z = w.has_zeros ? group_zeros(trailer, skip, v) : zero();
      const Shorts minus = twice(mul(add(z, splat(8.0f)), splat(kNibbleOne)));
      const auto put = [&](Shorts even, Shorts odd, uint8_t* bytes) __attribute__((always_inline)) {
        const auto scaled = [&](Shorts q) __attribute__((always_inline)) {
          const Shorts times_one = (q & splat_short(15 * kNibbleOne)) - minus;
          return reinterpret_cast<Shorts>(
              scale_shorts(reinterpret_cast<VI>(times_one), reinterpret_cast<VI>(ratio)));
        };
        Shorts both = (scaled(even) & splat_short(0xff)) | (scaled(odd) << 8);
        if (Flip) both ^= splat_short(0x8080);
        store_bytes(bytes, reinterpret_cast<VI>(both));
      };
      for (int64_t i = 0; i < size; i += 32, row += 512) {
#pragma GCC unroll 4
        for (int64_t j = 0; j < 4; ++j, at += 64) {
          const auto pairs = reinterpret_cast<Shorts>(load_bytes(at));
          put(pairs << 6, pairs >> 2, row + 64 * j);
          put(pairs << 2, pairs >> 6, row + 256 + 64 * j);
        }
      }
      at += trailer_bytes(w);
    }
  }
}

// A tile for these products, by any function that arranges one.
template <void (*arrange_tile)(const ActivationTile&)>
void arrange_wide_with(const ActivationTile& t) {
  const WeightView wide = widened(*t.weights);
  ActivationTile of = t;
  of.weights = &wide;
  arrange_tile(of);
}

template <TileProduct tile_of>
void wide_panels_with(const PanelProduct& product) {
  const WeightView& w = *product.weights;
  const WeightView wide = widened(w);
  const bool has_groups = wide.group < wide.span;
  if (has_groups || is_multiplied_in_place(w)) return int_panels_with<tile_of, tile_of>(product, wide);
  const bool is_int4 = w.format == WeightFormat::Int4;
  auto* bytes = static_cast<uint8_t*>(product.scratch);
  // The scales of int4, the zero points of int8.
  auto* factors = reinterpret_cast<float*>(bytes + kPanelColumns * w.k_padded);
  int_tiles<tile_of, tile_of>(product, wide, [&](int64_t p, int64_t begin, int64_t end) {
    for (int64_t b = 0; b < 2; ++b) {
      const uint8_t* block = w.blocks + (2 * p + b) * w.block_bytes;
      for (int64_t s = begin; s < end; ++s) {
        const int64_t k = s * kWideSpan, k_end = least(k + kWideSpan, w.k_padded);
        const uint8_t* from = block + bytes_before(w, k);
        uint8_t* to = bytes + (b * w.k_padded + k) * kBlockColumns;
        float* of = factors + s * kPanelColumns + b * kBlockColumns;
        if (is_int4) {
          unpack_wide<true>(w, from, k, k_end, to, of);
        } else {
          gather_wide(w, from, k, k_end, splat_int(0), kDot8KeepsOffset ? 128.0f : 0.0f, to, of);
        }
      }
    }
    return IntPanel{{bytes, bytes + kBlockColumns * w.k_padded},
                    is_int4 ? factors : nullptr,
                    is_int4 ? nullptr : factors};
  });
}

// ---- Float products.

// One span of weights, [k][16] of W per block.
template <class W>
struct FloatTile {
  const W* block[2];  // of the columns of this tile, at the span's first k
  const float* x;     // of the tile's rows, [k][R], at the span's first k
  int64_t size;
  float* sums;
};

template <int R, class W>
void float_tile(const FloatTile<W>& t) {
  V acc[R][kTileVectors];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int64_t v = 0; v < kTileVectors; ++v) acc[r][v] = zero();
  }
  const float* x = t.x;
  int64_t i = 0;
  do {  // as in multiply_group()
    V weights[kTileVectors];
#pragma GCC unroll 8
    for (int64_t v = 0; v < kTileVectors; ++v) {
      weights[v] = load(t.block[v / kBlockVectors] + i * kBlockColumns + (v % kBlockVectors) * kLanes);
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const V value = splat(x[r]);
#pragma GCC unroll 8
      for (int64_t v = 0; v < kTileVectors; ++v) acc[r][v] = fma(value, weights[v], acc[r][v]);
    }
    x += R;
  } while (++i < t.size);
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int64_t v = 0; v < kTileVectors; ++v) {
      float* sum = t.sums + r * kPanelColumns + v * kLanes;
      store(sum, add(load(sum), acc[r][v]));
    }
  }
}

template <class W>
void float_tile_of(int64_t rows, const FloatTile<W>& t) {
  if (rows == kRows) return float_tile<kRows>(t);
  if constexpr (kRows > 8) {
    if (rows == 8) return float_tile<8>(t);
  }
  if (rows == 4) return float_tile<4>(t);
  if (rows == 2) return float_tile<2>(t);
  float_tile<1>(t);
}

// Rows of one span: weights of both blocks at the span's first k, which is `begin`.
template <class W>
void float_span(const W* block0, const W* block1, int64_t begin, int64_t size, const PanelProduct& product) {
  const ActivationView& a = *product.activations;
  const W* blocks[2] = {block0, block1};
  for (int64_t c = 0; c < 2; c += kBlocks) {
    for (int64_t r = 0, rows = 0; r < a.rows; r += rows) {
      rows = tile_size(kRows, a.rows - r);
      float_tile_of<W>(rows, {.block = {blocks[c], blocks[1]},
                              .x = a.floats + r * product.weights->k + begin * rows,
                              .size = size,
                              .sums = product.sums + r * kPanelColumns + c * kBlockColumns});
    }
  }
}

template <class W>
void float_panel_of(const PanelProduct& product) {
  const WeightView& w = *product.weights;
  const auto* block0 = reinterpret_cast<const W*>(w.blocks + 2 * product.panel * w.block_bytes);
  const auto* block1 = reinterpret_cast<const W*>(w.blocks + (2 * product.panel + 1) * w.block_bytes);
  for (int64_t g = 0; g < w.k; g += kFloatSpan) {
    const int64_t at = g * kBlockColumns;
    float_span(block0 + at, block1 + at, g, least(kFloatSpan, w.k - g), product);
  }
}

// `size` inputs of one block of integer weights, whole groups, as floats [size][16], with the scales and zero
// points of groups.
const uint8_t* dequantize(const WeightView& w, const uint8_t* p, int64_t size, float* to) {
  const int64_t skip = scale_bytes(w);
  const bool is_int8 = w.format == WeightFormat::Int8;
  const V offset = splat(is_int8 ? -128.0f : -8.0f), minus = splat(-1.0f);
  for (int64_t g = 0; g < size; g += w.group) {
    const int64_t count = least(w.group, size - g);
    const uint8_t* trailer = p + count * (is_int8 ? kBlockColumns : kBlockColumns / 2);
    for (int64_t v = 0; v < kBlockVectors; ++v) {
      const V scale = skip ? group_scales(w, trailer, v) : splat(1.0f);
      const V shift = w.has_zeros ? fma(group_zeros(trailer, skip, v), minus, offset) : offset;
      const auto put = [&](VI bytes, int e, int64_t i) {
        store(to + (g + i + e) * kBlockColumns + v * kLanes,
              mul(add(bytes_to_float(bytes, e), shift), scale));
      };
      const uint8_t* from = p + v * kLanes * 4;
      for (int64_t i = 0; i < count; i += is_int8 ? 4 : 32) {
        for (int64_t j = 0; j < (is_int8 ? 1 : 4); ++j, from += 64) {
          const VI bytes = load_bytes(from);
          for (int e = 0; e < 4; ++e) {
            if (is_int8) {
              put(bytes, e, i);
            } else {
              put(low_nibbles(bytes), e, i + 4 * j);
              put(high_nibbles(bytes), e, i + 4 * j + 16);
            }
          }
        }
      }
    }
    p = trailer + trailer_bytes(w);
  }
  return p;
}

void float_rows(const PanelProduct& product) {
  const WeightView& w = *product.weights;
  for (int64_t i = 0; i < product.activations->rows * kPanelColumns; i += kLanes) {
    store(product.sums + i, zero());
  }
  if (w.format == WeightFormat::Float32) return float_panel_of<float>(product);
  if (w.format == WeightFormat::Float16) return float_panel_of<uint16_t>(product);
  auto* floats = static_cast<float*>(product.scratch);
  const uint8_t* p0 = w.blocks + 2 * product.panel * w.block_bytes;
  const uint8_t* p1 = p0 + w.block_bytes;
  for (int64_t begin = 0; begin < w.k; begin += kFloatSpan) {
    const int64_t padded = least(kFloatSpan, w.k_padded - begin);
    float* second = floats + padded * kBlockColumns;
    p0 = dequantize(w, p0, padded, floats);
    p1 = dequantize(w, p1, padded, second);
    float_span<float>(floats, second, begin, least(padded, w.k - begin), product);
  }
}

void float_panels(const PanelProduct& product) {
  PanelProduct one = product;
  one.panels = 1;
  for (int64_t p = 0; p < product.panels; ++p) {
    one.panel = product.panel + p;
    one.sums = product.sums + p * product.sums_stride;
    float_rows(one);
  }
}

// ---- Results.

// Whole panels of floats without a bias, as nearly all are: what all rows share stays in registers.
template <bool Scale, bool Residual>
void finish_whole(const PanelResult& t) {
  V scale[kPanelVectors];
#pragma GCC unroll 8
  for (int64_t v = 0; v < kPanelVectors; ++v) scale[v] = Scale ? load(t.scale + v * kLanes) : zero();
  for (int64_t r = 0; r < t.rows; ++r) {
    const float* sums = t.sums + r * kPanelColumns;
    float* y = t.y + r * t.y_stride;
#pragma GCC unroll 8
    for (int64_t v = 0; v < kPanelVectors; ++v) {
      V value = load(sums + v * kLanes);
      if (Scale) value = mul(value, scale[v]);
      if (Residual) value = add(value, load(t.residual + r * t.y_stride + v * kLanes));
      store(y + v * kLanes, value);
    }
  }
}

void finish(const PanelResult& t) {
  if (t.columns == kPanelColumns && !t.row_scale && !t.bias) {
    if (t.residual) return t.scale ? finish_whole<true, true>(t) : finish_whole<false, true>(t);
    return t.scale ? finish_whole<true, false>(t) : finish_whole<false, false>(t);
  }
  for (int64_t r = 0; r < t.rows; ++r) {
    const float* sums = t.sums + r * kPanelColumns;
    const float* residual = t.residual ? t.residual + r * t.y_stride : nullptr;
    float* y = t.y + r * t.y_stride;
    for (int64_t c = 0; c < t.columns; c += kLanes) {
      V v = load(sums + c);
      if (t.row_scale) {
        VI integers = load_bytes(reinterpret_cast<const uint8_t*>(sums + c));
        if (t.int_bias)
          integers = add_int(integers, load_bytes(reinterpret_cast<const uint8_t*>(t.int_bias + c)));
        v = mul(to_float(integers), splat(t.row_scale[r]));
      }
      if (t.scale) v = mul(v, load(t.scale + c));
      if (t.bias) v = add(v, load(t.bias + c));
      const int64_t left = t.columns - c;
      if (left >= kLanes) {
        if (residual) v = add(v, load(residual + c));
        store(y + c, v);
      } else {
        if (residual) {
          float part[kLanes] = {};
          for (int64_t i = 0; i < left; ++i) part[i] = residual[c + i];
          v = add(v, load(part));
        }
        store_part(y + c, v, left);
      }
    }
  }
}

int64_t multiply_peak(int64_t rounds) {
  constexpr int kChains = 12;  // more than latency times throughput of the dot product
  VI acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = splat_int(i);
  const VI weights = splat_int(static_cast<int32_t>(rounds));
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = dot4(acc[i], weights, 0x01020304);
  }
  int32_t keep = 0;
  for (int i = 0; i < kChains; ++i) keep += sum_int(acc[i]);
  asm volatile("" : : "r"(keep));
  return rounds * kChains * kLanes * 4;
}

[[maybe_unused]] constexpr MatmulKernels kWide = {
    kRows, arrange_wide_with<arrange_ints>, wide_panels_with<int_tile_of<false>>, nullptr, finish, nullptr};
[[maybe_unused]] constexpr MatmulKernels kKernels = {.tile_rows = kRows,
                                                     .arrange = arrange,
                                                     .int_panels = int_panels,
                                                     .float_panels = float_panels,
                                                     .finish = finish,
                                                     .multiply_peak = multiply_peak,
                                                     .wide = &kWide};

}  // namespace
}  // namespace mllm
