#include "api/errors.h"

#include <cstdio>
#include <exception>
#include <new>

namespace mllm::api {
namespace {

// A fixed buffer, so that reporting an out-of-memory error allocates nothing.
thread_local char last_error[2048] = "";

}  // namespace

void set_last_error(const char* message) noexcept {
  std::snprintf(last_error, sizeof last_error, "%s", message);
}

mllm_status translate_current_exception() noexcept {
  try {
    throw;
  } catch (const Error& e) {
    set_last_error(e.what());
    return e.status();
  } catch (const std::bad_alloc&) {
    set_last_error("out of memory");
    return MLLM_ERROR_OUT_OF_MEMORY;
  } catch (const std::exception& e) {
    set_last_error(e.what());
    return MLLM_ERROR_INTERNAL;
  } catch (...) {
    set_last_error("unknown error");
    return MLLM_ERROR_INTERNAL;
  }
}

}  // namespace mllm::api

extern "C" {

const char* mllm_last_error(void) {
  return mllm::api::last_error;
}

uint32_t mllm_abi_version(void) {
  return MLLM_ABI_VERSION;
}

const char* mllm_version(void) {
  return "0.1.0";
}
}
