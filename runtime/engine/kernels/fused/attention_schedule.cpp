#include "kernels/fused/attention_schedule.h"

#include <algorithm>
#include <atomic>

#include "base/error.h"
#include "kernels/fused/attention_tile.h"

namespace mllm::fused {
namespace {

// Tiles are handed out one by one; with fewer than this per thread, the last ones leave threads waiting.
constexpr int64_t kTilesPerThread = 4;
// Memory for the results of pieces, in floats: 512 KB. Where it is not enough, tiles are not cut.
constexpr int64_t kMostPartial = 128 * 1024;
constexpr int64_t kFloatsPerLine = 16;

// How rows and the query heads of a KV head are cut into tiles.
struct Cut {
  int64_t group;           // query heads per KV head
  int64_t heads_per_tile;  // of one KV head
  int64_t tiles_per_group;
  int64_t rows_per_tile;

  explicit Cut(const AttentionShape& shape) : group(shape.heads / shape.kv_heads) {
    tiles_per_group = (group + kTileVectors - 1) / kTileVectors;
    heads_per_tile = (group + tiles_per_group - 1) / tiles_per_group;
    rows_per_tile = std::clamp<int64_t>(kTileVectors / heads_per_tile, 1, shape.rows);
  }
  int64_t vectors() const { return rows_per_tile * heads_per_tile; }
  int64_t tiles_per_rows(const AttentionShape& shape) const { return shape.kv_heads * tiles_per_group; }
  int64_t tiles(const AttentionShape& shape, int64_t rows) const {
    return (rows + rows_per_tile - 1) / rows_per_tile * tiles_per_rows(shape);
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

// One call, seen by all threads.
struct Job {
  const VectorKernels& kernels;
  const AttentionCall& call;
  std::span<const Segment> segments;
  Cut cut;
  bool split = false;
  int64_t items = 0;
  std::atomic<int64_t> next{0};
  float* thread_scratch = nullptr;
  float* partials = nullptr;
  int32_t* unfinished = nullptr;  // per tile when split: pieces that are not done

  int64_t pieces(const Segment& s) const { return split ? pieces_of(int64_t{s.position} + s.n) : 1; }
  void work(int64_t worker);
  void run_item(int64_t item, const TileScratch& scratch);
};

// A tile, found in its segment.
struct Place {
  TileRows tile;
  CacheHead cache;
  int64_t offset;  // of the first query vector in q and y
};

Place place(const Job& job, const Segment& s, int64_t index) {
  const AttentionShape& shape = job.call.shape;
  const int64_t per_rows = job.cut.tiles_per_rows(shape);
  // Later rows see more positions: hand those out first, so that threads end together.
  const int64_t end = s.n - index / per_rows * job.cut.rows_per_tile;
  const int64_t begin = std::max<int64_t>(0, end - job.cut.rows_per_tile);
  const int64_t kv_head = index % per_rows / job.cut.tiles_per_group;
  const int64_t head = index % job.cut.tiles_per_group * job.cut.heads_per_tile;  // within the group
  const int64_t heads = std::min(job.cut.heads_per_tile, job.cut.group - head);
  const int64_t bytes =
      (s.slot * shape.kv_heads + kv_head) * shape.length * shape.d * (job.call.is_half ? 2 : 4);
  return {{end - begin, heads, s.position + begin},
          {static_cast<const uint8_t*>(job.call.keys) + bytes,
           static_cast<const uint8_t*>(job.call.values) + bytes, job.call.is_half, shape.d},
          ((s.row0 + begin) * shape.heads + kv_head * job.cut.group + head) * shape.d};
}

void load_queries(const Job& job, const Place& p, float* to) {
  const AttentionShape& shape = job.call.shape;
  const int64_t size = p.tile.heads * shape.d;
  for (int64_t r = 0; r < p.tile.rows; ++r) {
    job.kernels.scale_to(job.call.q + p.offset + r * shape.heads * shape.d, job.call.scale, to + r * size,
                         size);
  }
}

void store_result(const Job& job, const Place& p, const Partial& total) {
  const AttentionShape& shape = job.call.shape;
  for (int64_t r = 0; r < p.tile.rows; ++r) {
    for (int64_t h = 0; h < p.tile.heads; ++h) {
      const int64_t i = r * p.tile.heads + h;
      job.kernels.scale_to(total.sums + i * padded(shape.d), 1.0f / total.states[i].sum,
                           job.call.y + p.offset + (r * shape.heads + h) * shape.d, shape.d);
    }
  }
}

void Job::run_item(int64_t item, const TileScratch& scratch) {
  const int64_t d = call.shape.d;
  int64_t tile = 0;     // of all segments
  int64_t partial = 0;  // likewise
  const Segment* s = segments.data();
  for (;; ++s) {
    const int64_t tiles = cut.tiles(call.shape, s->n);
    if (item < tiles * pieces(*s)) break;
    item -= tiles * pieces(*s);
    tile += tiles;
    partial += tiles * pieces(*s);
  }
  const int64_t index = item / pieces(*s);
  const Place p = place(*this, *s, index);
  load_queries(*this, p, scratch.queries);
  if (!split) {
    attend_piece(kernels, p.cache, p.tile, 0, scratch, scratch.total);
    for (int64_t i = 1; i < pieces_of(p.tile.positions()); ++i) {
      attend_piece(kernels, p.cache, p.tile, i, scratch, scratch.piece);
      join_piece(kernels, p.tile, d, i, scratch.total, scratch.piece);
    }
    store_result(*this, p, scratch.total);
    return;
  }
  const auto result = [&](int64_t i) {
    const int64_t floats = Partial::floats(cut.vectors(), d);
    return Partial::at(partials + (partial + index * pieces(*s) + i) * floats, cut.vectors(), d);
  };
  attend_piece(kernels, p.cache, p.tile, item % pieces(*s), scratch, result(item % pieces(*s)));
  // Whoever ends a tile's last piece joins them.
  std::atomic_ref<int32_t> left(unfinished[tile + index]);
  if (left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  for (int64_t i = 1; i < pieces_of(p.tile.positions()); ++i)
    join_piece(kernels, p.tile, d, i, result(0), result(i));
  store_result(*this, p, result(0));
}

void Job::work(int64_t worker) {
  const TileScratch scratch =
      TileScratch::at(thread_scratch + worker * thread_floats(call.shape), cut.vectors(), call.shape.d);
  for (int64_t item = next++; item < items; item = next++) run_item(item, scratch);
}

}  // namespace

size_t attention_scratch_bytes(const AttentionShape& shape, int threads) {
  const int64_t counters = round_up(most_split_tiles(threads), kFloatsPerLine);
  return static_cast<size_t>(threads * thread_floats(shape) + partial_floats(shape, threads) + counters) *
         sizeof(float);
}

void attend(const VectorKernels& kernels, const AttentionCall& call, std::span<const Segment> segments,
            ThreadPool& pool, void* scratch) {
  const AttentionShape& shape = call.shape;
  const int threads = pool.threads();
  Job job{kernels, call, segments, Cut(shape)};
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
  // One captured pointer fits into std::function without memory from the heap.
  pool.parallel_for(std::min<int64_t>(threads, job.items), 1, [&job](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) job.work(i);
  });
}

}  // namespace mllm::fused
