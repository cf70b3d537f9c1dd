// Errors inside the engine are C++ exceptions of this one type; the C interface turns them into status codes.
#ifndef MINDIR_LLM_BASE_ERROR_H_
#define MINDIR_LLM_BASE_ERROR_H_

#include <stdexcept>
#include <string>
#include <utility>

#include "include/mindir_llm.h"

namespace mllm {

class Error : public std::runtime_error {
 public:
  Error(mllm_status status, std::string message) : std::runtime_error(std::move(message)), status_(status) {}
  mllm_status status() const { return status_; }

 private:
  mllm_status status_;
};

// Each throws Error; the message names the file, field or node and says what to do.
[[noreturn]] inline void fail_argument(std::string m) {
  throw Error(MLLM_ERROR_INVALID_ARGUMENT, std::move(m));
}
[[noreturn]] inline void fail_io(std::string m) {
  throw Error(MLLM_ERROR_IO, std::move(m));
}
[[noreturn]] inline void fail_format(std::string m) {
  throw Error(MLLM_ERROR_FORMAT, std::move(m));
}
[[noreturn]] inline void fail_unsupported(std::string m) {
  throw Error(MLLM_ERROR_UNSUPPORTED, std::move(m));
}
[[noreturn]] inline void fail_internal(std::string m) {
  throw Error(MLLM_ERROR_INTERNAL, std::move(m));
}

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_ERROR_H_
