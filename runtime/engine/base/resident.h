// How much memory this process takes.
#ifndef MINDIR_LLM_BASE_RESIDENT_H_
#define MINDIR_LLM_BASE_RESIDENT_H_

#include <cstdint>

namespace mllm {

// Bytes of this process that are in memory now, files that it maps included, after memory that is free within
// it has gone back to the system. A guess for a small program where the system does not tell.
uint64_t resident_bytes();

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_RESIDENT_H_
