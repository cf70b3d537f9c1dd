// Who is inside a call on a handle, so that a second call is refused, and closing waits for the first.
#ifndef MINDIR_LLM_API_USAGE_H_
#define MINDIR_LLM_API_USAGE_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

#include "base/error.h"

namespace mllm::api {

class Usage {
 public:
  explicit Usage(const char* what) : what_(what) {}  // "session", for messages
  Usage(const Usage&) = delete;
  Usage& operator=(const Usage&) = delete;

  // One call, from its beginning to its end.
  class Call {
   public:
    // Throws BUSY where there is another one.
    explicit Call(Usage& usage) : usage_(usage) {
      const std::lock_guard lock(usage_.mutex_);
      if (usage_.is_closed_) fail_closed();
      if (usage_.is_busy_) {
        throw Error(MLLM_ERROR_BUSY,
                    std::string("the ") + usage_.what_ +
                        " is in use: it serves one call at a time, so give each thread its own");
      }
      usage_.is_busy_ = true;
      usage_.user_ = std::this_thread::get_id();
      // Under the lock, so that what close() sets is not taken back.
      usage_.cancelled_.store(false, std::memory_order_relaxed);
    }
    ~Call() {
      const std::lock_guard lock(usage_.mutex_);
      usage_.is_busy_ = false;
      usage_.idle_.notify_all();
    }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    // Throws CANCELLED where the handle was closed meanwhile: nothing may point into it any more.
    void check_open() const {
      const std::lock_guard lock(usage_.mutex_);
      if (usage_.is_closed_) fail_closed();
    }

   private:
    [[noreturn]] void fail_closed() const {
      throw Error(MLLM_ERROR_CANCELLED, std::string("the ") + usage_.what_ + " was closed");
    }
    Usage& usage_;
  };

  // Ends the present call, if there is one. Safe in signal handlers.
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  const std::atomic<bool>& cancelled() const { return cancelled_; }

  // No call begins any more, and none of another thread goes on when this returns. One that this is called
  // from within goes on: its owner must keep what it uses. end_call: what else ends a call that is under way.
  template <class F>
  void close(F&& end_call) {
    std::unique_lock lock(mutex_);
    is_closed_ = true;
    cancel();
    if (is_busy_) end_call();
    if (is_busy_ && user_ == std::this_thread::get_id()) return;
    // wait() without a time would need the C++ runtime of GCC 12, which systems with glibc 2.34 lack.
    while (is_busy_) idle_.wait_for(lock, std::chrono::hours(1));
  }

  void close() {
    close([] {});
  }

 private:
  const char* what_;
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;  // guards what follows
  std::condition_variable idle_;
  bool is_busy_ = false;
  bool is_closed_ = false;
  std::thread::id user_;
};

}  // namespace mllm::api

#endif  // MINDIR_LLM_API_USAGE_H_
