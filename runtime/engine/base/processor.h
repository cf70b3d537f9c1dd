// What kernels must know of a processor beyond its instruction set.
#ifndef MINDIR_LLM_BASE_PROCESSOR_H_
#define MINDIR_LLM_BASE_PROCESSOR_H_

namespace mllm {

// True where a stream from memory is fastest when no instruction asks for it ahead, as on AMD's processors:
// with prefetches one core of a Zen 4 decodes int8 at 84 % of the speed that it has without, int4 at 91 %.
// Presumably they take places in the first-level cache's queue that its own prefetchers use better.
bool recognizes_streams();

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_PROCESSOR_H_
