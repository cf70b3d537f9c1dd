#include "kernels/matmul/machine_speed.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>

#include "base/huge_memory.h"
#include "base/isa.h"
#include "base/thread_pool.h"
#include "kernels/matmul/matmul.h"

namespace mllm {
namespace {

constexpr int64_t kBytes = int64_t{512} << 20;
constexpr int64_t kPiece = int64_t{256} << 10;
constexpr int kRepeats = 5;
constexpr double kLongest = 0.15;  // seconds that repetitions may take; slow machines do two

template <class Body>
double best_seconds(const Body& body) {
  double best = 1e30, total = 0;
  for (int i = 0; i < kRepeats && (i < 2 || total < kLongest); ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::min(best, seconds.count());
    total += seconds.count();
  }
  return best;
}

// Reads all of [begin, end), whole lines. Unrolled, whatever the compiler thinks: in a loop the sums stay in
// memory, which costs ten cycles a line, more than the line itself. All words of a line, since some
// prefetchers do not recognize a walk that touches one word of each.
template <bool kAhead>
void read_words(const uint64_t* words, int64_t begin, int64_t end) {
  uint64_t sum[8] = {};
  for (int64_t i = begin; i < end; i += 8) {
    if (kAhead) __builtin_prefetch(words + i + 512);  // reaches across pages
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) sum[j] += words[i + j];
  }
  asm volatile("" : : "r"(sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7]));
}

double read_bandwidth(ThreadPool& pool) {
  const std::shared_ptr<uint8_t> memory = allocate_huge(kBytes);
  const auto* words = reinterpret_cast<const uint64_t*>(memory.get());
  pool.parallel_for(kBytes, kPiece, [&](int64_t begin, int64_t end) {
    std::fill(memory.get() + begin, memory.get() + end, uint8_t{1});
  });
  const auto best_of = [&](const auto& read) {
    return best_seconds([&] {
      pool.parallel_for(kBytes / 8, kPiece / 8, [&](int64_t begin, int64_t end) { read(words, begin, end); });
    });
  };
  // Some processors read faster when they are asked ahead, others when they are left alone.
  return static_cast<double>(kBytes) / std::min(best_of(read_words<true>), best_of(read_words<false>));
}

// Enough to see through the clock's resolution and through how long threads take to wake up: slow machines,
// and emulated ones, need fewer.
int64_t rounds_to_measure(const MatmulKernels& kernels) {
  constexpr int64_t kMost = 1 << 18;
  constexpr double kEnough = 1e-3;
  int64_t rounds = 1 << 12;
  for (double seconds = 0; rounds < kMost && seconds < kEnough;) {
    rounds *= 4;
    const auto start = std::chrono::steady_clock::now();
    kernels.multiply_peak(rounds);
    seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return rounds;
}

double multiply_peak(ThreadPool& pool, const MatmulKernels& kernels) {
  const int64_t rounds = rounds_to_measure(kernels);
  int64_t products = 0;
  const int64_t pieces = 8 * pool.threads();
  const double seconds = best_seconds([&] {
    pool.parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t count = kernels.multiply_peak(rounds);
        if (i == 0) products = count;
      }
    });
  });
  return static_cast<double>(products * pieces) / seconds;
}

}  // namespace

MachineSpeed measure_machine(int threads) {
  ThreadPool pool(threads);
  MachineSpeed speed;
  speed.read_bandwidth = read_bandwidth(pool);
  const Isa isa = current_isa();
  speed.int8_macs = multiply_peak(pool, matmul_kernels(isa, 1, true));
  if (isa == Isa::Amx) speed.matrix_macs = multiply_peak(pool, matmul_kernels(isa, 64, true));
  return speed;
}

}  // namespace mllm
