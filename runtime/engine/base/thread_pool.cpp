#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <fstream>
#include <limits>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"

namespace mllm {
namespace {

// Long enough to bridge the gap between two operators of a decode step, short enough that a process that
// needs the core gets it.
constexpr std::chrono::microseconds kSpinTime{10};
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
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) +
                       "/topology/thread_siblings_list");
    std::string siblings;
    if (!std::getline(file, siblings)) siblings = "cpu" + std::to_string(cpu);
    cores.insert(siblings);
  }
  return std::clamp(static_cast<int>(cores.size()), 1, kMaxThreads);
}

struct ThreadPool::State {
  // One loop at a time. `ticket` holds the number of the loop (high half) and the pieces not yet handed out
  // (low half). A thread that takes a piece with compare-and-swap knows thereby that this loop has not ended,
  // so the fields of the job cannot change before it reports its piece as finished.
  std::mutex caller;
  std::atomic<uint64_t> ticket{0};
  std::atomic<uint32_t> unfinished{0};
  std::atomic<uint32_t> wake{0};
  std::atomic<uint32_t> sleepers{0};
  std::atomic<bool> stop{false};

  const std::function<void(int64_t, int64_t)>* body = nullptr;
  int64_t count = 0;
  int64_t grain = 1;
  uint32_t pieces = 0;
  std::mutex error_mutex;
  std::exception_ptr error;

  std::vector<std::thread> workers;

  bool has_work() const { return static_cast<uint32_t>(ticket.load(std::memory_order_relaxed)) != 0; }

  // Take pieces until none is left.
  void work() {
    uint64_t seen = ticket.load(std::memory_order_acquire);
    while (static_cast<uint32_t>(seen) != 0) {
      if (!ticket.compare_exchange_weak(seen, seen - 1, std::memory_order_acq_rel,
                                        std::memory_order_acquire)) {
        continue;
      }
      const int64_t piece = static_cast<int64_t>(pieces) - static_cast<int64_t>(static_cast<uint32_t>(seen));
      const int64_t begin = piece * grain;
      try {
        (*body)(begin, std::min(count, begin + grain));
      } catch (...) {
        std::lock_guard lock(error_mutex);
        if (!error) error = std::current_exception();
      }
      if (unfinished.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished.notify_one();
      seen = ticket.load(std::memory_order_acquire);
    }
  }

  void worker() {
    while (true) {
      work();
      const uint32_t before = wake.load(std::memory_order_seq_cst);
      if (spin_until([this] { return has_work() || stop.load(std::memory_order_relaxed); })) {
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
  const int total = threads <= 0 ? physical_cores() : std::min(threads, kMaxThreads);
  try {
    for (int i = 1; i < total; ++i) state_->workers.emplace_back([s = state_.get()] { s->worker(); });
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
  if (count <= 0) return;
  // The ticket counts pieces in 32 bits; a coarser grain keeps any count inside it.
  const int64_t most = std::numeric_limits<uint32_t>::max() / 2;
  grain = std::max({grain, int64_t{1}, (count - 1) / most + 1});
  const int64_t pieces = (count - 1) / grain + 1;
  State& s = *state_;
  if (pieces == 1 || s.workers.empty()) {
    for (int64_t begin = 0; begin < count; begin += grain) body(begin, std::min(count, begin + grain));
    return;
  }
  std::lock_guard lock(s.caller);
  s.body = &body;
  s.count = count;
  s.grain = grain;
  s.pieces = static_cast<uint32_t>(pieces);
  s.unfinished.store(s.pieces, std::memory_order_relaxed);
  const uint64_t loop = (s.ticket.load(std::memory_order_relaxed) >> 32) + 1;
  s.ticket.store(loop << 32 | s.pieces, std::memory_order_release);
  s.ring();
  s.work();
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
