// The inner loops of products with stored weights, as one table of functions per instruction set, and the
// layouts that they read.
//
// Outputs are computed in panels of 32 columns, two blocks of 16. A block is contiguous in memory, in the
// order in which a kernel walks along k, so that decode reads it as one stream and prefill finds it in cache:
//
//   Float32, Float16   [k][16]
//   Int8               [k/4][16][4], bytes w + 128; k padded to 64 with zeros
//   Int4               [k/32][4][16][4]. The j-th 64 bytes of a run of 32 inputs hold q + 8 of inputs 4j + i
//                      in the low nibbles, of inputs 16 + 4j + i in the high ones; k padded to 64 with zeros
//
// Where groups of integers have scales or zero points, the inputs of each group are followed by 16 scales,
// float16 or float32, and then by 16 zero points, int8.
//
// Four consecutive k per 32-bit lane are what VPDPBUSD, SDOT and TDPBUSD multiply at once.
//
// Included by the files that are compiled with wide instructions, so it holds declarations only: an inline
// function here, or a header that has any, could be linked from such a file into code that runs everywhere.
#ifndef MINDIR_LLM_KERNELS_MATMUL_MATMUL_H_
#define MINDIR_LLM_KERNELS_MATMUL_MATMUL_H_

#include <cstdint>

namespace mllm {

enum class Isa;

enum class WeightFormat : uint8_t { Float32, Float16, Int8, Int4 };

// How group scales are stored inside the blocks.
enum class GroupScale : uint8_t { None, Float16, Float32 };

struct WeightView {
  WeightFormat format;
  GroupScale group_scale;
  bool has_zeros;    // weights are (q - zero) * scale
  int64_t k;         // inputs, as the graph has them
  int64_t k_padded;  // as stored
  int64_t group;     // inputs that share a scale or zero: 32, 64 or 128; span where no group has any
  int64_t groups;    // of the padded inputs
  int64_t span;      // inputs whose activations share a scale in a row, a multiple of group
  int64_t spans;     // the last may be shorter
  int64_t block_bytes;
  const uint8_t* blocks;
  // How many bytes before their use decode asks for weights; negative, for lines that it has, where the
  // processor is better left alone.
  int64_t ahead;
};

// Rows of activations as kernels read them, in tiles of tile_size() rows. Within a tile of r rows, elements
// are interleaved: float32 [k][r]; int8 [k_padded/4][r][4], or [k_padded/64][16][64] for a matrix unit. int8
// values carry one scale per row and span, [spans][r] per tile, and -128 times their sum per group of the
// weights, [groups][r]. Without scales of spans the product is one of integers alone. A tile that begins at
// some row begins at that row times the size of a row.
struct ActivationView {
  int64_t rows;
  const float* floats;
  const int8_t* values;
  const float* scales;
  const int32_t* corrections;
  bool has_lowest = false;  // values reach -128, not just -127
};

// One tile to be made from r rows, x_stride floats apart. Where there are row_scales, a whole row has the one
// scale that goes there, [r], and spans have none.
struct ActivationTile {
  const float* x;
  int64_t x_stride;
  int64_t rows;
  const WeightView* weights;  // whose inputs these are
  float* floats;              // or null, then the others
  int8_t* values;
  float* scales;
  int32_t* corrections;
  float* row_scales = nullptr;
  // With row_scales only: when positive, x * factor + zero is rounded, -128 … 127, and the scale of a row is
  // 1.
  float factor = 0.0f;
  float zero = 0.0f;
};

// sums[panels][rows][32], rows rounded up to whole tiles, = activations times the panels' weights, without
// the scale of a column. Where spans have no scales, sums are int32.
struct PanelProduct {
  const WeightView* weights;
  int64_t panel;  // the first
  const ActivationView* activations;
  float* sums;
  void* scratch;  // panel_scratch_bytes()
  int64_t panels = 1;
  int64_t sums_stride = 0;  // from one panel's sums to the next's
};

// y[r][c] = sums[r][c] * row_scale[r] * scale[c] + bias[c] + residual[r][c] for c < columns; scale and biases
// have 32 elements. Sums of integers (row_scale is set) are int32, and int_bias is added to them.
struct PanelResult {
  const float* sums;
  int64_t rows;
  int64_t columns;
  const float* row_scale;  // or null
  const float* scale;      // or null
  const float* bias;       // or null
  const float* residual;   // or null; rows y_stride apart
  float* y;
  int64_t y_stride;
  const int32_t* int_bias = nullptr;  // or null
};

// Every output adds its products in an order that depends on k alone, whatever is computed beside it.
// Integers: per group an exact sum of activation * (weight - zero); with group scales, these sums times their
// scales one after another; per span that times the activations' scale, the spans one after another, or one
// exact sum of all where spans have no scale. Floats: one sum per span, the spans' one after another.
struct MatmulKernels {
  int64_t tile_rows;  // of the largest tile
  void (*arrange)(const ActivationTile&);
  void (*int_panels)(const PanelProduct&);
  void (*float_panels)(const PanelProduct&);
  void (*finish)(const PanelResult&);
  // Multiplies int8 in registers, `rounds` times as often as there are accumulators, and returns how many
  // multiply-accumulates that was: what the machine could do if it never waited for memory.
  int64_t (*multiply_peak)(int64_t rounds);
  // Panels that many rows are best multiplied with at once: more than one where the activations would
  // otherwise come from memory too often.
  int64_t panels_at_once = 1;
  // The same for prompts, with kWideSpan: see wide_kernels().
  const MatmulKernels* wide = nullptr;
};
// With 256 rows their sums, 32 KiB each, share a second-level cache with a step's activations.
inline constexpr int64_t kMostPanelsAtOnce = 8;

// How far ahead of their use weights are asked for: a little over the latency of memory times the share of
// its bandwidth that one core gets (about 100 ns * 15 GB/s).
inline constexpr int64_t kReadAheadBytes = 2304;

inline constexpr int64_t kBlockColumns = 16;
inline constexpr int64_t kPanelColumns = 32;
// Sums of floats: chains of this length round little.
inline constexpr int64_t kFloatSpan = 128;
// Activations are quantized in runs of a row's elements. Longer runs cost less work, but one large element
// makes all of its run coarse: 256 where nothing else interrupts the sums, 128 where groups of weights do.
inline constexpr int64_t kSpan = 256;
inline constexpr int64_t kGroupedSpan = 128;
// Prompts: where multiplying is fast (a matrix unit most of all), leaving the integers is what costs.
inline constexpr int64_t kWideSpan = 512;

// Rows of the next tile when `left` rows are left: kernels exist for a few sizes up to their largest.
int64_t tile_size(int64_t largest, int64_t left);

// Aligned scratch of one panel product: unpacked int4 weights and their scales, or dequantized weights.
int64_t panel_scratch_bytes(const WeightView& weights);

const MatmulKernels& generic_matmul();
// x86-64 only. The matrix unit's kernels have no float products.
const MatmulKernels& avx2_matmul();
const MatmulKernels& avxvnni_matmul();
const MatmulKernels& avx512_matmul();
const MatmulKernels& avx512vnni_matmul();
const MatmulKernels& amx_matmul();
// 64-bit ARM only.
const MatmulKernels& neon_matmul();
const MatmulKernels& neondot_matmul();
const MatmulKernels& neoni8mm_matmul();
// 32-bit ARM only, from ARMv7 on.
const MatmulKernels& vfpv4_matmul();

// The best kernels of `isa`, which must be supported, for this many rows of integers (quantized activations
// and weights) or of floats; those of current_isa().
const MatmulKernels& matmul_kernels(Isa isa, int64_t rows, bool integers);
const MatmulKernels& matmul_kernels(int64_t rows, bool integers);

// Graphs whose chunks have at least this many rows are for prompts, where some kernels round otherwise than
// in others, and then in every chunk, full or not: rounding must not depend on how many tokens a chunk
// happens to have.
inline constexpr int64_t kFewestPromptRows = 32;

// Kernels for prompts with kWideSpan, where int4 weights become int8 with one scale for all groups of a span:
// much faster than those that take every group as it is, with the same bits on every instruction set that has
// fused multiply-add, but not those of the others. Null for weights that have none, as groups of int8 have
// none for a matrix unit.
const MatmulKernels* wide_kernels(Isa isa, const WeightView& weights);
const MatmulKernels* wide_kernels(const WeightView& weights);

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_MATMUL_MATMUL_H_
