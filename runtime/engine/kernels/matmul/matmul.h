// The inner loops of products with stored weights, as one table of functions per instruction set, and the
// layouts that they read.
//
// Outputs are computed in panels of 32 columns, two blocks of 16. A block is contiguous in memory, in the
// order in which a kernel walks along k, so that decode reads it as one stream and prefill finds it in cache:
//
//   Float32, Float16   [k][16]
//   Int8               [k/4][16][4], bytes w + 128; k padded to 64 with zeros
//   Int4               per group: [group/32][4][16][4] bytes, then 16 scales where groups have them. Byte j
//   of
//                      a 32-element run holds q + 8 of elements 4j' + i (low nibble) and 16 + 4j' + i (high),
//                      j' its quarter and i its place in it; k padded to min(group, 64) with zeros
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
  int64_t k;         // inputs, as the graph has them
  int64_t k_padded;  // as stored
  int64_t group;   // inputs that share a scale: of the weights where group_scale says so, and of activations
  int64_t groups;  // the last may be shorter
  int64_t block_bytes;
  const uint8_t* blocks;
};

// Rows of activations as kernels read them: tiles of `tile_rows` rows (the last has the rest). Within a tile
// of r rows, elements are interleaved: float32 [k][r]; int8 [k_padded/4][r][4], or [k_padded/64][16][64] for
// a matrix unit. int8 values carry one scale per row and group, and -128 times their sum, [groups][r] per
// tile.
struct ActivationView {
  int64_t rows;
  const float* floats;
  const int8_t* values;
  const float* scales;
  const int32_t* corrections;
};

// One tile to be made from r rows, x_stride floats apart.
struct ActivationTile {
  const float* x;
  int64_t x_stride;
  int64_t rows;
  int64_t k, k_padded, group, groups;
  float* floats;  // or null, then the others
  int8_t* values;
  float* scales;
  int32_t* corrections;
};

// sums[rows][32], rows rounded up to whole tiles, = activations times the panel's weights, without the scale
// of a column.
struct PanelProduct {
  const WeightView* weights;
  int64_t panel;
  const ActivationView* activations;
  float* sums;
  void* scratch;  // panel_scratch_bytes()
};

// y[r][c] = sums[r][c] * scale[c] + bias[c] + residual[r][c] for c < columns; scale and bias have 32
// elements.
struct PanelResult {
  const float* sums;
  int64_t rows;
  int64_t columns;
  const float* scale;     // or null
  const float* bias;      // or null
  const float* residual;  // or null; rows y_stride apart
  float* y;
  int64_t y_stride;
};

// Every output adds its products in an order that depends on k alone, whatever is computed beside it: per
// group of `group` elements one sum (exact in integers), the groups' sums one after another.
struct MatmulKernels {
  int64_t tile_rows;
  void (*arrange)(const ActivationTile&);
  void (*int_panel)(const PanelProduct&);
  void (*float_panel)(const PanelProduct&);
  void (*finish)(const PanelResult&);
  // Multiplies int8 in registers, `rounds` times as often as there are accumulators, and returns how many
  // multiply-accumulates that was: what the machine could do if it never waited for memory.
  int64_t (*multiply_peak)(int64_t rounds);
};

inline constexpr int64_t kBlockColumns = 16;
inline constexpr int64_t kPanelColumns = 32;
// Products of floats add up groups of this many elements, then the groups: shorter chains round less.
inline constexpr int64_t kFloatGroup = 128;
// Activations are quantized in groups of this many elements, or of the weights' own where those are smaller.
inline constexpr int64_t kActivationGroup = 128;

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

// The best kernels of `isa`, which must be supported, for this many rows of integers (quantized activations
// and weights) or of floats; those of current_isa().
const MatmulKernels& matmul_kernels(Isa isa, int64_t rows, bool integers);
const MatmulKernels& matmul_kernels(int64_t rows, bool integers);

}  // namespace mllm

#endif  // MINDIR_LLM_KERNELS_MATMUL_MATMUL_H_
