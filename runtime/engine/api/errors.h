// Where exceptions stop: every function of the C interface runs its body through guard().
#ifndef MINDIR_LLM_API_ERRORS_H_
#define MINDIR_LLM_API_ERRORS_H_

#include <string>
#include <utility>

#include "base/error.h"

namespace mllm::api {

void set_last_error(const char* message) noexcept;
mllm_status translate_current_exception() noexcept;

// Run `body`; on an exception store its message for mllm_last_error() and return its status.
template <class F>
mllm_status guard(F&& body) noexcept {
  try {
    std::forward<F>(body)();
    return MLLM_OK;
  } catch (...) {
    return translate_current_exception();
  }
}

// The caller passed NULL where a pointer is needed.
inline void require(const void* pointer, const char* what) {
  if (!pointer) fail_argument(std::string(what) + " must not be NULL");
}

}  // namespace mllm::api

#endif  // MINDIR_LLM_API_ERRORS_H_
