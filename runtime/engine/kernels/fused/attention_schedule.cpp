#include "kernels/fused/attention_schedule.h"

#include <algorithm>
#include <atomic>

namespace mllm::fused {
namespace {

// Tiles are handed out one by one; with fewer than this per thread, the last ones leave threads waiting.
constexpr int64_t kTilesPerThread = 4;
// Memory for the results of pieces, in floats: 512 KB. Where it is not enough, tiles are not cut.
constexpr int64_t kMostPartial = 128 * 1024;
constexpr int64_t kFloatsPerLine = 16;

// Of numbers that fit into 32 bits: many processors take 90 cycles to divide in 64.
struct Division {
  int64_t quotient;
  int64_t rest;
};
Division divide(int64_t a, int64_t b) {
  const auto x = static_cast<uint32_t>(a);
  const auto y = static_cast<uint32_t>(b);
  return {x / y, x % y};
}

// Query vectors of a tile for a matrix unit, for which keys and values must be arranged first: that takes as
// long as 16 to 32 vectors do.
constexpr int64_t kMatrixVectors = 256;

// How rows and the query heads of a KV head are cut into tiles of so many query vectors.
struct Cut {
  int64_t group;           // query heads per KV head
  int64_t heads_per_tile;  // of one KV head
  int64_t tiles_per_group;
  int64_t rows_per_tile;

  explicit Cut(const AttentionShape& shape, int64_t most = kTileVectors)
      : group(shape.heads / shape.kv_heads) {
    tiles_per_group = (group + most - 1) / most;
    heads_per_tile = (group + tiles_per_group - 1) / tiles_per_group;
    rows_per_tile = std::clamp<int64_t>(most / heads_per_tile, 1, shape.rows);
  }
  int64_t vectors() const { return rows_per_tile * heads_per_tile; }
  int64_t tiles_per_rows(const AttentionShape& shape) const { return shape.kv_heads * tiles_per_group; }
  int64_t tiles(const AttentionShape& shape, int64_t rows) const {
    return divide(rows + rows_per_tile - 1, rows_per_tile).quotient * tiles_per_rows(shape);
  }
};

int64_t thread_floats(const AttentionShape& shape) {
  return round_up(TileScratch::floats(Cut(shape).vectors(), shape.d), kFloatsPerLine);
}

int64_t most_split_tiles(int threads) {
  return kTilesPerThread * threads;
}

// Floats for the results of pieces, at most.
int64_t partial_floats(const AttentionShape& shape, int threads) {
  if (threads == 1) return 0;
  const Cut cut(shape);
  const int64_t tiles = std::min(most_split_tiles(threads), shape.rows * cut.tiles_per_rows(shape));
  return std::min(kMostPartial, tiles * pieces_of(shape.length) * Partial::floats(cut.vectors(), shape.d));
}

// Of a thread.
int64_t matrix_bytes(const MatrixKernels& kernels, const AttentionShape& shape) {
  return round_up(kernels.scratch_bytes(Cut(shape, kMatrixVectors).vectors(), shape.d), 64);
}

// One call, seen by all threads, cut into items that are handed out one by one.
struct Job {
  const AttentionCall& call;
  std::span<const Segment> segments;
  Cut cut;
  bool split = false;
  int64_t items = 0;
  std::atomic<int64_t> next{0};

  int64_t pieces(const Segment& s) const { return split ? pieces_of(int64_t{s.position} + s.n) : 1; }
};

struct VectorJob : Job {
  const VectorKernels& kernels;
  int64_t workers = 0;
  float* thread_scratch = nullptr;
  float* partials = nullptr;
  int32_t* unfinished = nullptr;  // per tile when split: pieces that are not done
};

struct MatrixJob : Job {
  const MatrixKernels& kernels;
  uint8_t* scratch;  // matrix_bytes() of each thread
};

// What an item is: a tile in its segment, and a piece of its context or all of them.
struct Place {
  TileRows tile;
  CacheHead cache;
  const float* key_channels;  // of the KV head, or null
  const float* value_channels;
  int64_t offset;  // of the first query vector in q and y
  int64_t piece;
  int64_t number;  // of the tile, over all segments
  int64_t result;  // of the tile's first piece, likewise
};

Place place(const Job& job, int64_t item) {
  const AttentionShape& shape = job.call.shape;
  int64_t number = 0;
  int64_t result = 0;
  const Segment* s = job.segments.data();
  for (;; ++s) {
    const int64_t tiles = job.cut.tiles(shape, s->n);
    const int64_t here = tiles * job.pieces(*s);
    if (item < here) break;
    item -= here;
    number += tiles;
    result += here;
  }
  const int64_t pieces = job.pieces(*s);
  const auto [index, piece] = divide(item, pieces);
  const auto [row_tile, rest] = divide(index, job.cut.tiles_per_rows(shape));
  const auto [kv_head, head_tile] = divide(rest, job.cut.tiles_per_group);
  // Later rows see more positions: hand those out first, so that threads end together.
  const int64_t end = s->n - row_tile * job.cut.rows_per_tile;
  const int64_t begin = std::max<int64_t>(0, end - job.cut.rows_per_tile);
  const int64_t head = head_tile * job.cut.heads_per_tile;  // within the group
  const int64_t heads = std::min(job.cut.heads_per_tile, job.cut.group - head);
  const int64_t first_row = (s->slot * shape.kv_heads + kv_head) * shape.length;
  const int64_t bytes = first_row * shape.d * item_bytes(job.call.type);
  const CacheScales& k = job.call.key_scales;
  const CacheScales& v = job.call.value_scales;
  return {{end - begin, heads, s->position + begin},
          {static_cast<const uint8_t*>(job.call.keys) + bytes,
           static_cast<const uint8_t*>(job.call.values) + bytes, job.call.type, shape.d,
           k.rows ? k.rows + first_row : nullptr, v.rows ? v.rows + first_row : nullptr},
          k.channels ? k.channels + kv_head * shape.d : nullptr,
          v.channels ? v.channels + kv_head * shape.d : nullptr,
          ((s->row0 + begin) * shape.heads + kv_head * job.cut.group + head) * shape.d,
          piece,
          number + index,
          result + index * pieces};
}

void load_queries(const VectorJob& job, const Place& p, float* to) {
  const AttentionShape& shape = job.call.shape;
  const int64_t size = p.tile.heads * shape.d;
  for (int64_t r = 0; r < p.tile.rows; ++r) {
    const float* from = job.call.q + p.offset + r * shape.heads * shape.d;
    if (!p.key_channels) {
      job.kernels.scale_to(from, job.call.scale, to + r * size, size);
      continue;
    }
    // (q * scales) k = q (scales * k)
    for (int64_t i = 0; i < size; i += shape.d)
      job.kernels.multiply(from + i, job.call.scale, p.key_channels, to + r * size + i, shape.d);
  }
}

void store_result(const VectorJob& job, const Place& p, const Partial& total) {
  const AttentionShape& shape = job.call.shape;
  for (int64_t r = 0; r < p.tile.rows; ++r) {
    for (int64_t h = 0; h < p.tile.heads; ++h) {
      const int64_t i = r * p.tile.heads + h;
      const float* sums = total.sums + i * padded(shape.d);
      const float factor = 1.0f / total.states[i].sum;
      float* to = job.call.y + p.offset + (r * shape.heads + h) * shape.d;
      if (p.value_channels) {
        job.kernels.multiply(sums, factor, p.value_channels, to, shape.d);
      } else {
        job.kernels.scale_to(sums, factor, to, shape.d);
      }
    }
  }
}

// All pieces of a tile.
void run_tile(const VectorJob& job, const Place& p, const TileScratch& scratch, const MemoryRange& then) {
  const int64_t pieces = pieces_of(p.tile.positions());
  for (int64_t i = 0; i < pieces; ++i) {
    attend_piece(job.kernels, p.cache, p.tile, i, scratch, i == 0 ? scratch.total : scratch.piece,
                 i + 1 < pieces ? first_step(p.cache, p.tile, i + 1) : then);
    if (i > 0) join_piece(job.kernels, p.tile, p.cache.d, i, scratch.total, scratch.piece);
  }
  store_result(job, p, scratch.total);
}

// One piece of a tile. Whoever ends the last one joins them.
void run_piece(const VectorJob& job, const Place& p, const TileScratch& scratch, const MemoryRange& then) {
  const int64_t d = p.cache.d;
  const int64_t vectors = job.cut.vectors();
  const auto result = [&](int64_t i) {
    return Partial::at(job.partials + (p.result + i) * Partial::floats(vectors, d), vectors, d);
  };
  attend_piece(job.kernels, p.cache, p.tile, p.piece, scratch, result(p.piece), then);
  const std::atomic_ref<int32_t> left(job.unfinished[p.number]);
  if (left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  for (int64_t i = 1; i < pieces_of(p.tile.positions()); ++i) {
    join_piece(job.kernels, p.tile, d, i, result(0), result(i));
  }
  store_result(job, p, result(0));
}

void work(VectorJob& job, int64_t worker) {
  const AttentionShape& shape = job.call.shape;
  const TileScratch scratch =
      TileScratch::at(job.thread_scratch + worker * thread_floats(shape), job.cut.vectors(), shape.d);
  for (int64_t item = job.next++; item < job.items; item = job.next++) {
    const Place p = place(job, item);
    // Threads mostly take turns, so this is what this one is going to read next.
    MemoryRange then{};
    if (item + job.workers < job.items) {
      const Place later = place(job, item + job.workers);
      then = first_step(later.cache, later.tile, later.piece);
    }
    load_queries(job, p, scratch.queries);
    if (job.split) {
      run_piece(job, p, scratch, then);
    } else {
      run_tile(job, p, scratch, then);
    }
  }
}

void work(MatrixJob& job, int64_t worker) {
  const AttentionCall& call = job.call;
  uint8_t* scratch = job.scratch + worker * matrix_bytes(job.kernels, call.shape);
  for (int64_t item = job.next++; item < job.items; item = job.next++) {
    const Place p = place(job, item);
    job.kernels.attend({.q = call.q + p.offset,
                        .y = call.y + p.offset,
                        .row_stride = call.shape.heads * call.shape.d,
                        .rows = p.tile.rows,
                        .heads = p.tile.heads,
                        .position = p.tile.position,
                        .keys = p.cache.keys,
                        .values = p.cache.values,
                        .item_bytes = item_bytes(call.type),
                        .d = call.shape.d,
                        .scale = call.scale,
                        .key_rows = p.cache.key_scales,
                        .value_rows = p.cache.value_scales,
                        .key_channels = p.key_channels,
                        .value_channels = p.value_channels,
                        .scratch = scratch});
  }
}

template <class AnyJob>
void run_workers(AnyJob& job, int64_t workers, ThreadPool& pool) {
  // One captured pointer fits into std::function without memory from the heap.
  pool.parallel_for(workers, 1, [&job](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) work(job, i);
  });
}

}  // namespace

size_t attention_scratch_bytes(const MatrixKernels& kernels, const AttentionShape& shape, int threads) {
  return static_cast<size_t>(threads * matrix_bytes(kernels, shape));
}

void attend(const MatrixKernels& kernels, const AttentionCall& call, std::span<const Segment> segments,
            ThreadPool& pool, void* scratch) {
  MatrixJob job{{call, segments, Cut(call.shape, kMatrixVectors)}, kernels, static_cast<uint8_t*>(scratch)};
  for (const Segment& s : segments) job.items += job.cut.tiles(call.shape, s.n);
  run_workers(job, std::min<int64_t>(pool.threads(), job.items), pool);
}

size_t attention_scratch_bytes(const AttentionShape& shape, int threads) {
  const int64_t counters = round_up(most_split_tiles(threads), kFloatsPerLine);
  return static_cast<size_t>(threads * thread_floats(shape) + partial_floats(shape, threads) + counters) *
         sizeof(float);
}

void attend(const VectorKernels& kernels, const AttentionCall& call, std::span<const Segment> segments,
            ThreadPool& pool, void* scratch) {
  const AttentionShape& shape = call.shape;
  const int threads = pool.threads();
  VectorJob job{{call, segments, Cut(shape)}, kernels};
  job.thread_scratch = static_cast<float*>(scratch);
  job.partials = job.thread_scratch + threads * thread_floats(shape);
  job.unfinished = reinterpret_cast<int32_t*>(job.partials + partial_floats(shape, threads));

  int64_t tiles = 0;
  int64_t pieces = 0;
  for (const Segment& s : segments) {
    const int64_t here = job.cut.tiles(shape, s.n);
    tiles += here;
    pieces += here * pieces_of(int64_t{s.position} + s.n);
  }
  job.split = tiles < most_split_tiles(threads) && pieces > tiles &&
              pieces * Partial::floats(job.cut.vectors(), shape.d) <= partial_floats(shape, threads);
  job.items = job.split ? pieces : tiles;
  if (job.split) {
    int32_t* tile = job.unfinished;
    for (const Segment& s : segments) {
      const int64_t here = job.cut.tiles(shape, s.n);
      std::fill_n(tile, here, static_cast<int32_t>(job.pieces(s)));
      tile += here;
    }
  }
  job.workers = std::min<int64_t>(threads, job.items);
  run_workers(job, job.workers, pool);
}

}  // namespace mllm::fused
