// The clock that chat templates read.
#ifndef MINDIR_LLM_TEXT_LOCAL_TIME_H_
#define MINDIR_LLM_TEXT_LOCAL_TIME_H_

#include <cstdint>

namespace mllm::text {

// Seconds since 1970 as the clock on the wall counts them.
int64_t local_time_now();

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_LOCAL_TIME_H_
