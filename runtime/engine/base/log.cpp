#include "base/log.h"

#include <mutex>

namespace mllm {
namespace {

struct Listener {
  mllm_log_callback callback = nullptr;
  void* user = nullptr;
};

std::mutex mutex;
Listener listener;  // guarded by the mutex

Listener current() {
  const std::lock_guard lock(mutex);
  return listener;
}

}  // namespace

void set_log(mllm_log_callback callback, void* user) {
  const std::lock_guard lock(mutex);
  listener = {callback, user};
}

bool has_log() {
  return current().callback != nullptr;
}

void log(mllm_log_level level, const std::string& message) {
  // Called without the lock: the program may set another one from within.
  const Listener to = current();
  if (to.callback) to.callback(to.user, level, message.c_str());
}

}  // namespace mllm
