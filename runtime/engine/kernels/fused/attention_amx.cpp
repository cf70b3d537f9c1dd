// AMX: attention in products of bfloat16, 16 x 32 by 32 x 16 in one instruction.
//
// Scores stand with positions in rows and query vectors in columns: each lane of a vector register is a query
// vector then, and softmax needs no sums or maxima across lanes. The second product is transposed likewise,
// [d, positions] by [positions, vectors]. The softmax is the online one of FlashAttention (Dao et al. 2022),
// with powers of two: log2(e) is part of the queries' scale.
#if defined(__x86_64__)
// clang-format off: the parts build on each other in this order
#include "kernels/fused/lanes_avx512.h"
#include "kernels/matmul/amx_tiles.h"
// clang-format on

#include "kernels/fused/attention_matrix.h"

namespace mllm {
namespace {

// Positions whose keys and values are converted at a time: 4 registers of scores.
constexpr int64_t kBlock = 64;
constexpr int64_t kVectors = 16;          // query vectors of a product
constexpr int64_t kTileValues = 16 * 32;  // bfloat16 of a register
constexpr int64_t kTileSums = 16 * 16;

inline int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}
inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Registers 0-3, of which the first `count` are used, += A (registers 4 and 5, one after another) times B
// (register 6), over `steps` runs of 32 inputs. What register i takes of A is a_stride values behind that of
// register i - 1, steps stand side by side; sums are one register after another in `to`, and begin with 0
// where `first`.
//
// Registers are named in instructions: hence macros.
#define MLLM_BEGIN(R)                           \
  if (count > (R)) {                            \
    if (first) {                                \
      _tile_zero(R);                            \
    } else {                                    \
      _tile_loadd(R, to + (R) * kTileSums, 64); \
    }                                           \
  }                                             \
  static_assert(true)
#define MLLM_STEP(R, A)                                       \
  if (count > (R)) {                                          \
    _tile_loadd(A, a + (R) * a_stride + s * kTileValues, 64); \
    _tile_dpbf16ps(R, A, 6);                                  \
  }                                                           \
  static_assert(true)
#define MLLM_END(R) \
  if (count > (R)) _tile_stored(R, to + (R) * kTileSums, 64)

inline void multiply(const uint16_t* a, int64_t a_stride, const uint16_t* b, int64_t steps, int64_t count,
                     bool first, float* to) {
  MLLM_BEGIN(0);
  MLLM_BEGIN(1);
  MLLM_BEGIN(2);
  MLLM_BEGIN(3);
  for (int64_t s = 0; s < steps; ++s) {
    _tile_loadd(6, b + s * kTileValues, 64);
    MLLM_STEP(0, 4);
    MLLM_STEP(1, 5);
    MLLM_STEP(2, 4);
    MLLM_STEP(3, 5);
  }
  MLLM_END(0);
  MLLM_END(1);
  MLLM_END(2);
  MLLM_END(3);
}

// 2^x for x <= 0, within 3e-6 of it (a bfloat16 has 2e-3), 0 for -infinity, NaN for NaN. The polynomial is
// that of 2^f on [0, 1), exact at 0 and with the least relative error elsewhere.
inline V power_of_two(V x) {
  const V f = _mm512_reduce_ps(x, 0x09);  // x - floor(x)
  V p = fma(splat(0x1.b7f722p-7f), f, splat(0x1.abf87p-5f));
  p = fma(p, f, splat(0x1.ee245p-3f));
  p = fma(p, f, splat(0x1.62d6c6p-1f));
  p = fma(p, f, splat(1.0f));
  return _mm512_scalef_ps(p, x);
}

// Two vectors of floats as bfloat16, side by side or taking turns.
inline __m512i joined(V low, V high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}
inline __m512i interleaved(V even, V odd, __m512i order) {
  return _mm512_permutexvar_epi16(order, joined(even, odd));
}
inline __m512i turns() {
  alignas(64) uint16_t order[32];
  for (uint16_t i = 0; i < 32; ++i) order[i] = static_cast<uint16_t>(i / 2 + i % 2 * 16);
  return _mm512_load_si512(order);
}

template <class T>
inline V load_some(const T* p, int64_t count) {
  return count >= kLanes ? load(p) : count > 0 ? load_part(p, count) : zero();
}

// Keys of `count` positions as registers of A: [position / 16][d / 32][16][32].
template <class T>
void arrange_keys(const T* keys, int64_t count, int64_t d, uint16_t* to) {
  const int64_t steps = ceil_div(d, 32);
  for (int64_t j = 0; j < ceil_div(count, 16) * 16; ++j) {
    for (int64_t s = 0; s < steps; ++s) {
      const T* from = keys + j * d + s * 32;
      const int64_t left = j < count ? d - s * 32 : 0;
      _mm512_store_si512(to + (j / 16 * steps + s) * kTileValues + j % 16 * 32,
                         joined(load_some(from, left), load_some(from + 16, left - 16)));
    }
  }
}

// Values likewise, transposed: [d / 16][position / 32][16][32].
template <class T>
void arrange_values(const T* values, int64_t count, int64_t d, uint16_t* to) {
  const __m512i order = turns();
  for (int64_t c = 0; c < d; c += 16) {
    for (int64_t j = 0; j < kBlock; j += 32, to += kTileValues) {
      if (j >= count) continue;
      V pairs[16];
#pragma GCC unroll 16
      for (int64_t i = 0; i < 16; ++i) {
        const int64_t at = j + 2 * i;
        const T* from = values + at * d + c;
        const V even = load_some(from, at < count ? d - c : 0);
        const V odd = load_some(from + d, at + 1 < count ? d - c : 0);
        pairs[i] = _mm512_castsi512_ps(interleaved(even, odd, order));
      }
      transpose(pairs);
#pragma GCC unroll 16
      for (int64_t i = 0; i < 16; ++i) store(reinterpret_cast<float*>(to) + i * 16, pairs[i]);
    }
  }
}

// What 16 query vectors have computed so far, lane by lane.
struct State {
  V maximum;
  V sum;
};

class Call {
 public:
  explicit Call(const MatrixAttention& call)
      : a_(call),
        vectors_(call.rows * call.heads),
        steps_(ceil_div(call.d, 32)),
        columns_(ceil_div(call.d, 16)) {
    auto* memory = static_cast<uint8_t*>(call.scratch);  // null where only bytes() is asked for
    const auto take = [&](int64_t bytes) {
      uint8_t* at = memory ? memory + bytes_ : nullptr;
      bytes_ += bytes;
      return at;
    };
    queries_ = reinterpret_cast<uint16_t*>(take(tiles() * steps_ * kTileValues * 2));
    sums_ = reinterpret_cast<float*>(take(tiles() * columns_ * kTileSums * 4));
    states_ = reinterpret_cast<State*>(take(tiles() * int64_t{sizeof(State)}));
    keys_ = reinterpret_cast<uint16_t*>(take(kBlock / 16 * steps_ * kTileValues * 2));
    values_ = reinterpret_cast<uint16_t*>(take(columns_ * (kBlock / 32) * kTileValues * 2));
    scores_ = reinterpret_cast<float*>(take(kBlock / 16 * kTileSums * 4));
    weights_ = reinterpret_cast<uint16_t*>(take(kBlock / 32 * kTileValues * 2));
  }

  int64_t bytes() const { return bytes_; }

  void run() const {
    configure(64);
    for (int64_t t = 0; t < tiles(); ++t) arrange_queries(t);
    const int64_t end = a_.position + a_.rows;
    for (int64_t j = 0; j < end; j += kBlock) {
      const int64_t count = least(kBlock, end - j);
      arrange(j, count);
      for (int64_t t = 0; t < tiles(); ++t) {
        const int64_t last = least(vectors_, (t + 1) * kVectors) - 1;
        const int64_t seen = least(count, a_.position + last / a_.heads + 1 - j);
        if (seen > 0) attend(t, j, seen);
      }
    }
    for (int64_t t = 0; t < tiles(); ++t) finish(t);
    _tile_release();
  }

 private:
  int64_t tiles() const { return ceil_div(vectors_, kVectors); }
  int64_t vectors_of(int64_t t) const { return least(kVectors, vectors_ - t * kVectors); }
  // Of a query vector, in q and y.
  int64_t offset(int64_t vector) const {
    return vector / a_.heads * a_.row_stride + vector % a_.heads * a_.d;
  }

  // [d / 32][16 pairs][16 vectors][2], times the scales.
  void arrange_queries(int64_t t) const {
    constexpr float kLog2e = 0x1.715476p0f;
    const V scale = splat(a_.scale * kLog2e);
    states_[t] = {splat(-__builtin_inff()), zero()};
    for (int64_t s = 0; s < steps_; ++s) {
      V pairs[16];
      for (int64_t i = 0; i < kVectors; ++i) {
        const auto part = [&](int64_t c) {
          const int64_t left = i < vectors_of(t) ? a_.d - c : 0;
          const V x = mul(left > 0 ? load_some(a_.q + offset(t * kVectors + i) + c, left) : zero(), scale);
          return a_.key_channels ? mul(x, load_some(a_.key_channels + c, left)) : x;
        };
        pairs[i] = _mm512_castsi512_ps(joined(part(s * 32), part(s * 32 + 16)));
      }
      transpose(pairs);
      auto* to = reinterpret_cast<float*>(queries_ + (t * steps_ + s) * kTileValues);
      for (int64_t i = 0; i < 16; ++i) store(to + i * 16, pairs[i]);
    }
  }

  template <class T>
  void arrange_as(int64_t j, int64_t count) const {
    arrange_keys(static_cast<const T*>(a_.keys) + j * a_.d, count, a_.d, keys_);
    arrange_values(static_cast<const T*>(a_.values) + j * a_.d, count, a_.d, values_);
  }
  void arrange(int64_t j, int64_t count) const {
    if (a_.item_bytes == 4) arrange_as<float>(j, count);
    if (a_.item_bytes == 2) arrange_as<uint16_t>(j, count);
    if (a_.item_bytes == 1) arrange_as<int8_t>(j, count);
    settle_memory(keys_);
  }

  // The sums of tile t take in the first `seen` positions of a block, which begins at j.
  void attend(int64_t t, int64_t j, int64_t seen) const {
    const int64_t rows = ceil_div(seen, 16) * 16;
    multiply(keys_, steps_ * kTileValues, queries_ + t * steps_ * kTileValues, steps_, rows / 16, true,
             scores_);
    settle_memory(scores_);
    if (a_.key_rows) {
      for (int64_t i = 0; i < seen; ++i) {
        float* row = scores_ + i * kVectors;
        store(row, mul(load(row), splat(a_.key_rows[j + i])));
      }
    }
    // All see all positions up to that of the tile's first row.
    const int64_t common = a_.position + t * kVectors / a_.heads + 1 - j;
    if (common < rows) hide(t, j, common > 0 ? common : 0, rows);
    const V factor = weigh(t, j, rows);
    settle_memory(weights_);
    float* sums = sums_ + t * columns_ * kTileSums;
    if (j > 0 && _mm512_cmp_ps_mask(factor, splat(1.0f), _CMP_NEQ_UQ) != 0) {
      for (int64_t i = 0; i < columns_ * kTileSums; i += kLanes) store(sums + i, mul(load(sums + i), factor));
    }
    settle_memory(sums);
    for (int64_t c = 0; c < columns_; c += 4) {
      multiply(values_ + c * (kBlock / 32) * kTileValues, kBlock / 32 * kTileValues, weights_,
               ceil_div(rows, 32), least(4, columns_ - c), j == 0, sums + c * kTileSums);
    }
    settle_memory(sums);
  }

  // Scores of positions [from, rows) behind a lane's row become -infinity.
  void hide(int64_t t, int64_t j, int64_t from, int64_t rows) const {
    alignas(64) int32_t row_of[16];
    for (int64_t i = 0; i < 16; ++i) row_of[i] = static_cast<int32_t>((t * kVectors + i) / a_.heads);
    const __m512i position =
        _mm512_add_epi32(_mm512_load_si512(row_of), _mm512_set1_epi32(static_cast<int32_t>(a_.position - j)));
    for (int64_t i = from; i < rows; ++i) {
      const __mmask16 hidden = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(static_cast<int32_t>(i)), position);
      _mm512_mask_storeu_ps(scores_ + i * kVectors, hidden, splat(-__builtin_inff()));
    }
  }

  // Scores become weights, as registers of B: [position / 32][16 pairs][16 vectors][2]. Returns what the sums
  // so far are to be multiplied with.
  V weigh(int64_t t, int64_t j, int64_t rows) const {
    V& maximum = states_[t].maximum;
    V m[4] = {maximum, maximum, maximum, maximum};
    for (int64_t i = 0; i < rows; i += 4) {
#pragma GCC unroll 4
      for (int64_t n = 0; n < 4; ++n) m[n] = max(load(scores_ + (i + n) * kVectors), m[n]);
    }
    const V higher = max(max(m[0], m[1]), max(m[2], m[3]));
    // With -infinity only, any number to subtract gives the weight 0 they deserve.
    const __mmask16 none = _mm512_cmp_ps_mask(higher, splat(-__builtin_inff()), _CMP_EQ_OQ);
    const V subtract = _mm512_mask_blend_ps(none, higher, zero());
    const V factor = power_of_two(sub(maximum, subtract));
    maximum = higher;
    const __m512i order = turns();
    V total[2] = {zero(), zero()};
    for (int64_t i = 0; i < rows; i += 2) {
      V p[2];
#pragma GCC unroll 2
      for (int64_t n = 0; n < 2; ++n) {
        p[n] = power_of_two(sub(load(scores_ + (i + n) * kVectors), subtract));
        total[n] = add(total[n], p[n]);
        if (a_.value_rows) p[n] = mul(p[n], splat(value_row(j + i + n)));
      }
      _mm512_store_si512(weights_ + i * kVectors, interleaved(p[0], p[1], order));
    }
    for (int64_t i = rows; i % 32 != 0; i += 2) {
      _mm512_store_si512(weights_ + i * kVectors, _mm512_setzero_si512());
    }
    states_[t].sum = fma(states_[t].sum, factor, add(total[0], total[1]));
    return factor;
  }

  float value_row(int64_t position) const {
    return position < a_.position + a_.rows ? a_.value_rows[position] : 0.0f;
  }

  void finish(int64_t t) const {
    const V factor = div(splat(1.0f), states_[t].sum);
    for (int64_t c = 0; c < a_.d; c += 16) {
      const float* sums = sums_ + (t * columns_ + c / 16) * kTileSums;
      V rows[16];
      for (int64_t i = 0; i < 16; ++i) rows[i] = mul(load(sums + i * 16), factor);
      transpose(rows);
      const int64_t width = least(16, a_.d - c);
      for (int64_t i = 0; i < vectors_of(t); ++i) {
        V y = rows[i];
        if (a_.value_channels) y = mul(y, load_some(a_.value_channels + c, width));
        store_part(a_.y + offset(t * kVectors + i) + c, y, width);
      }
    }
  }

  const MatrixAttention& a_;
  int64_t vectors_;
  int64_t steps_;    // of 32 numbers of a query
  int64_t columns_;  // registers of 16 numbers of a result
  uint16_t* queries_;
  float* sums_;  // [tile][d / 16][16][16 vectors]
  State* states_;
  uint16_t* keys_;
  uint16_t* values_;
  float* scores_;  // [position][16 vectors]
  uint16_t* weights_;
  int64_t bytes_ = 0;
};

int64_t scratch_bytes(int64_t vectors, int64_t d) {
  MatrixAttention shape{};
  shape.rows = vectors;
  shape.heads = 1;
  shape.d = d;
  return Call(shape).bytes();
}

void attend(const MatrixAttention& call) {
  Call(call).run();
}

constexpr MatrixKernels kMatrixKernels = {scratch_bytes, attend};

}  // namespace

const MatrixKernels& amx_attention() {
  return kMatrixKernels;
}

}  // namespace mllm
#endif
