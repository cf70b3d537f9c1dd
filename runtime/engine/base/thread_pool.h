// A small thread pool for data-parallel loops.
#ifndef MINDIR_LLM_BASE_THREAD_POOL_H_
#define MINDIR_LLM_BASE_THREAD_POOL_H_

#include <cstdint>
#include <functional>
#include <memory>

namespace mllm {

// Physical cores this process may use, at least 1.
int physical_cores();
// One thread for each of them, or fewer where control groups allow less processor time than that.
int default_threads();

class ThreadPool {
 public:
  explicit ThreadPool(int threads);  // <= 0: default_threads()
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const;

  // Call body(begin, end) over disjoint pieces that cover [0, count); pieces have `grain` items (the last may
  // have fewer). Each thread takes one after another from its own contiguous share, then from the far end of
  // the others' shares, so that a thread delayed by another process delays only its own piece. The caller
  // works too. The first exception of a piece is rethrown here after all pieces ended. Not reentrant. Calls
  // from several threads (several sessions of one model) are serialized.
  void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

  // The same, but with one call for all the neighbouring pieces that a thread takes at once: for bodies to
  // which every call is an interruption. Pieces then say only where threads may part.
  void parallel_ranges(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& body);

 private:
  void run(int64_t count, int64_t grain, bool together, const std::function<void(int64_t, int64_t)>& body);

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_THREAD_POOL_H_
