// The C interface of what the embedding program provides: a place for messages, memory.
#include <cstddef>

#include "api/errors.h"
#include "api/structs.h"
#include "base/log.h"
#include "base/memory.h"

extern "C" {

void mllm_set_log(mllm_log_callback callback, void* user) {
  mllm::set_log(callback, user);
}

mllm_status mllm_set_allocator(const mllm_allocator* allocator) {
  return mllm::api::guard([&] {
    if (!allocator) return mllm::set_allocator(nullptr);
    constexpr size_t kFirst = offsetof(mllm_allocator, user) + sizeof(void*);
    const mllm_allocator hooks = mllm::api::read_struct(allocator, kFirst, "mllm_allocator");
    if (!hooks.allocate || !hooks.release)
      mllm::fail_argument("mllm_allocator: allocate and release must not be NULL");
    mllm::set_allocator(&hooks);
  });
}
}
