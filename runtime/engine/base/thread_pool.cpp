#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <limits>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/placement.h"

namespace mllm {
namespace {

// Long enough to bridge what one thread does alone between two products of a decode step (about 20 us), short
// enough that a process that needs the core gets it.
constexpr std::chrono::microseconds kSpinTime{50};
constexpr int kMaxThreads = 256;

inline void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spin until `done()` or the spin time is over; returns done().
template <class Done>
bool spin_until(const Done& done) {
  if (done()) return true;
  const auto end = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 8; ++i) {
      pause_cpu();
      if (done()) return true;
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

}  // namespace

int physical_cores() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  }
  // Hardware threads of one core have equal sibling lists.
  std::set<std::string> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu);
    const std::string siblings = system_text(folder + "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? folder : siblings);
  }
  return std::clamp(static_cast<int>(cores.size()), 1, kMaxThreads);
}

int default_threads() {
  const int cores = physical_cores();
  // A part of a core still lets its thread do that part: round up.
  const auto quota = cpu_quota("");
  return quota && *quota < cores ? std::max(1, static_cast<int>(std::ceil(*quota))) : cores;
}

struct ThreadPool::State {
  // What is left of a thread's share: pieces front … back-1, in one word so that both ends move atomically.
  struct alignas(64) Share {
    std::atomic<uint64_t> pieces{0};
  };
  static uint64_t pack(uint32_t front, uint32_t back) { return uint64_t{back} << 32 | front; }

  // One loop at a time. Its fields are written before the shares are, and a thread reads them only after it
  // took a piece from a share; the loop cannot end, nor its fields change, before that piece is reported.
  std::mutex caller;
  std::vector<Share> shares;  // one per thread
  std::atomic<uint32_t> loop{0};
  std::atomic<uint32_t> unfinished{0};
  std::atomic<uint32_t> wake{0};
  std::atomic<uint32_t> sleepers{0};
  std::atomic<bool> stop{false};

  const std::function<void(int64_t, int64_t)>* body = nullptr;
  int64_t count = 0;
  int64_t grain = 1;
  bool together = false;
  std::mutex error_mutex;
  std::exception_ptr error;

  std::vector<std::thread> workers;

  struct Pieces {
    uint32_t begin;
    uint32_t end;
  };

  // Take pieces from the front of one's own share, or from the back of another's: half of what is left. Every
  // taking interrupts the stream from memory, so taking one piece after another would cost 5 to 8 % of a
  // decode step; taking all would leave nothing to thieves when this thread loses its core. (With a quarter
  // instead of half, decode was 3 % slower on an idle machine and no faster on a busy one.)
  std::optional<Pieces> take(size_t share, bool own) {
    std::atomic<uint64_t>& pieces = shares[share].pieces;
    uint64_t seen = pieces.load(std::memory_order_acquire);
    while (true) {
      const auto front = static_cast<uint32_t>(seen);
      const auto back = static_cast<uint32_t>(seen >> 32);
      if (front >= back) return std::nullopt;
      const uint32_t count = std::max<uint32_t>(1, (back - front) / 2);
      const uint64_t rest = own ? pack(front + count, back) : pack(front, back - count);
      if (pieces.compare_exchange_weak(seen, rest, std::memory_order_acq_rel, std::memory_order_acquire)) {
        return own ? Pieces{front, front + count} : Pieces{back - count, back};
      }
    }
  }

  void run_pieces(const Pieces& pieces) {
    const uint32_t at_once = together ? pieces.end - pieces.begin : 1;
    for (uint32_t piece = pieces.begin; piece < pieces.end; piece += at_once) {
      const int64_t begin = int64_t{piece} * grain;
      try {
        (*body)(begin, std::min(count, begin + at_once * grain));
      } catch (...) {
        std::lock_guard lock(error_mutex);
        if (!error) error = std::current_exception();
      }
    }
    const uint32_t done = pieces.end - pieces.begin;
    if (unfinished.fetch_sub(done, std::memory_order_acq_rel) == done) unfinished.notify_one();
  }

  // Run pieces until none is left: the own share in order, so that a thread reads memory as one stream, then
  // what slower threads have left.
  void work(size_t self) {
    for (size_t i = 0; i < shares.size(); ++i) {
      const size_t share = (self + i) % shares.size();
      while (const auto pieces = take(share, i == 0)) run_pieces(*pieces);
    }
  }

  void worker(size_t self) {
    while (true) {
      const uint32_t before = wake.load(std::memory_order_seq_cst);
      const uint32_t seen = loop.load(std::memory_order_acquire);
      work(self);
      const auto has_news = [&] {
        return loop.load(std::memory_order_relaxed) != seen || stop.load(std::memory_order_relaxed);
      };
      if (spin_until(has_news)) {
        if (stop.load(std::memory_order_acquire)) return;
        continue;
      }
      sleepers.fetch_add(1, std::memory_order_seq_cst);
      wake.wait(before, std::memory_order_seq_cst);
      sleepers.fetch_sub(1, std::memory_order_seq_cst);
      if (stop.load(std::memory_order_acquire)) return;
    }
  }

  void ring() {
    wake.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) != 0) wake.notify_all();
  }

  void shut_down() {
    stop.store(true, std::memory_order_seq_cst);
    ring();
    for (std::thread& thread : workers) thread.join();
    workers.clear();
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  const int total = threads <= 0 ? default_threads() : std::min(threads, kMaxThreads);
  state_->shares = std::vector<State::Share>(static_cast<size_t>(total));
  try {
    for (int i = 1; i < total; ++i) {
      state_->workers.emplace_back([s = state_.get(), i] { s->worker(static_cast<size_t>(i)); });
    }
  } catch (const std::exception& e) {
    state_->shut_down();
    throw Error(MLLM_ERROR_OUT_OF_MEMORY,
                "cannot start " + std::to_string(total) + " threads: " + e.what() + "; ask for fewer");
  }
}

ThreadPool::~ThreadPool() {
  state_->shut_down();
}

int ThreadPool::threads() const {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::parallel_for(int64_t count, int64_t grain,
                              const std::function<void(int64_t, int64_t)>& body) {
  run(count, grain, false, body);
}

void ThreadPool::parallel_ranges(int64_t count, int64_t grain,
                                 const std::function<void(int64_t, int64_t)>& body) {
  run(count, grain, true, body);
}

void ThreadPool::run(int64_t count, int64_t grain, bool together,
                     const std::function<void(int64_t, int64_t)>& body) {
  if (count <= 0) return;
  // Shares count pieces in 32 bits; a coarser grain keeps any count inside it.
  const int64_t most = std::numeric_limits<uint32_t>::max() / 2;
  grain = std::max({grain, int64_t{1}, (count - 1) / most + 1});
  const int64_t pieces = (count - 1) / grain + 1;
  State& s = *state_;
  if (pieces == 1 || s.workers.empty()) {
    const int64_t at_once = together ? count : grain;
    for (int64_t begin = 0; begin < count; begin += at_once) body(begin, std::min(count, begin + at_once));
    return;
  }
  std::lock_guard lock(s.caller);
  s.body = &body;
  s.count = count;
  s.grain = grain;
  s.together = together;
  s.unfinished.store(static_cast<uint32_t>(pieces), std::memory_order_relaxed);
  const auto threads = static_cast<int64_t>(s.shares.size());
  for (int64_t i = 0; i < threads; ++i) {
    const auto front = static_cast<uint32_t>(pieces * i / threads);
    const auto back = static_cast<uint32_t>(pieces * (i + 1) / threads);
    s.shares[static_cast<size_t>(i)].pieces.store(State::pack(front, back), std::memory_order_release);
  }
  s.loop.fetch_add(1, std::memory_order_release);
  s.ring();
  s.work(0);
  const auto finished = [&s] { return s.unfinished.load(std::memory_order_acquire) == 0; };
  if (!spin_until(finished)) {
    for (uint32_t left = s.unfinished.load(std::memory_order_acquire); left != 0;
         left = s.unfinished.load(std::memory_order_acquire)) {
      s.unfinished.wait(left, std::memory_order_acquire);
    }
  }
  if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
}

}  // namespace mllm
