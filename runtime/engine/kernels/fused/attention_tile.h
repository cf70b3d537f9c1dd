// Attention of a tile of query vectors over a piece of the cache, by one thread.
//
// The context is cut into pieces of kPiece positions that start at multiples of kPiece. Within a piece a
// query vector has all its scores before its softmax, so nothing is rescaled; pieces join by their maxima and
// sums (Milakov and Gimelshein 2018; Dao et al. 2022), in ascending order. Where pieces and steps start and
// the order of additions in them depend on absolute positions alone, so a row's result is the same whether it
// is decoded or part of a prompt, and whether one thread walks over all pieces or each piece has its own.
#ifndef MINDIR_LLM_KERNELS_FUSED_ATTENTION_TILE_H_
#define MINDIR_LLM_KERNELS_FUSED_ATTENTION_TILE_H_

#include <algorithm>
#include <cstdint>

#include "kernels/fused/vector.h"

namespace mllm::fused {

// Positions per piece. Longer ones cost fewer joins, shorter ones let more threads share one token's work: 2
// KV heads at 1024 positions are 8 pieces.
inline constexpr int64_t kPiece = 256;
// Positions that are converted to float32 at a time: with 64 numbers each they are 16 KB, half of the
// smallest first-level cache, and 4 vectors of the widest instruction set.
inline constexpr int64_t kStep = kTransposedStride;
// Query vectors (rows times heads) per tile. Converting a step costs as much as computing 3 to 4 vectors with
// it.
inline constexpr int64_t kTileVectors = 48;

inline int64_t round_up(int64_t size, int64_t unit) {
  return (size + unit - 1) / unit * unit;
}
inline int64_t padded(int64_t d) {
  return round_up(d, kProductColumns);
}
inline int64_t pieces_of(int64_t positions) {
  return (positions + kPiece - 1) / kPiece;
}

enum class CacheType : uint8_t { Float32, Float16, Int8 };
inline int64_t item_bytes(CacheType type) {
  return type == CacheType::Float32 ? 4 : type == CacheType::Float16 ? 2 : 1;
}

// One head of one slot of the caches, [positions, d].
struct CacheHead {
  const void* keys;
  const void* values;
  CacheType type;
  int64_t d;
  // What the numbers of a position are times, or null. (Scales of channels are part of the queries and of the
  // results.)
  const float* key_scales;
  const float* value_scales;
};

// Query vectors: row r has `heads` of them and sees the positions 0 ... position + r.
struct TileRows {
  int64_t rows;
  int64_t heads;
  int64_t position;

  int64_t vectors() const { return rows * heads; }
  int64_t positions() const { return position + rows; }
  // The first row that sees position j, or `rows`.
  int64_t first_seeing(int64_t j) const { return std::clamp<int64_t>(j - position, 0, rows); }
};

// For each query vector: its state, and the sums of weighted values [vectors, padded(d)].
struct Partial {
  SoftmaxState* states;
  float* sums;

  static int64_t floats(int64_t vectors, int64_t d) {
    return round_up(vectors * (padded(d) + 2), kProductColumns);
  }
  static Partial at(float* memory, int64_t vectors, int64_t d) {
    return {reinterpret_cast<SoftmaxState*>(memory + vectors * padded(d)), memory};
  }
};

// What a thread needs beside the results, in one piece of memory.
struct TileScratch {
  float* queries;  // [vectors, d], dense, times the scale
  float* scores;   // [vectors, kScoresStride]
  float* step;     // keys or values of a step
  Partial total;
  Partial piece;

  static int64_t floats(int64_t vectors, int64_t d);
  static TileScratch at(float* memory, int64_t vectors, int64_t d);
};

// What attend_piece reads first.
MemoryRange first_step(const CacheHead& cache, const TileRows& tile, int64_t index);

// The sums of `tile` over piece `index` alone. Rows that do not see it are left as they are. `then` is what
// will be read afterwards.
void attend_piece(const VectorKernels& kernels, const CacheHead& cache, const TileRows& tile, int64_t index,
                  const TileScratch& scratch, const Partial& result, const MemoryRange& then);

// total, of the pieces before `index`, takes in that piece.
void join_piece(const VectorKernels& kernels, const TileRows& tile, int64_t d, int64_t index,
                const Partial& total, const Partial& piece);

}  // namespace mllm::fused

#endif  // MINDIR_LLM_KERNELS_FUSED_ATTENTION_TILE_H_
