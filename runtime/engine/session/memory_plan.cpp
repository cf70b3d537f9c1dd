#include "session/memory_plan.h"

#include <algorithm>

#include "base/error.h"

namespace mllm {
namespace {

constexpr int32_t kContextStep = 16;

}  // namespace

std::string megabytes(uint64_t bytes) {
  constexpr uint64_t kTenth = 100'000;
  const uint64_t tenths = bytes / kTenth + (bytes % kTenth != 0 ? 1 : 0);
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " MB";
}

std::string plan_text(const MemoryPlan& plan, const MemoryNeeds& needs) {
  return "context " + std::to_string(plan.context) + " of " + std::to_string(needs.context) +
         ", prefill chunk " + std::to_string(plan.chunk) + " of " + std::to_string(needs.chunk);
}

MemoryPlan plan_memory(const std::string& name, uint64_t limit, const MemoryNeeds& needs,
                       const ChunkBytes& chunk_bytes) {
  const uint64_t fixed = needs.program + needs.weights;
  const auto plan = [&](int32_t context, int32_t chunk) {
    MemoryPlan out{context, chunk, static_cast<uint64_t>(context) * needs.position + chunk_bytes(chunk), 0};
    out.peak = fixed + std::max(needs.loading, out.session);
    return out;
  };
  const int32_t least_chunk = needs.can_shrink ? std::min(needs.chunk, kLeastChunk) : needs.chunk;
  const int32_t least_context = needs.can_shrink ? std::min(needs.context, kLeastContext) : needs.context;
  const MemoryPlan least = plan(least_context, least_chunk);
  if (least.peak > limit) {
    const std::string positions = std::to_string(least_context);
    const uint64_t caches = static_cast<uint64_t>(least_context) * needs.position;
    const std::string rest = needs.loading > least.session
                                 ? ", reading them " + megabytes(needs.loading)
                                 : ", a context of " + positions + " " + megabytes(caches) +
                                       ", intermediate values " + megabytes(least.session - caches);
    throw Error(MLLM_ERROR_OUT_OF_MEMORY,
                name + ": max_memory is " + std::to_string(limit) + " bytes, but it needs " +
                    megabytes(least.peak) + " at least (weights " + megabytes(needs.weights) + ", program " +
                    megabytes(needs.program) + rest +
                    "); allow it more, or export the model in fewer bits (--quant a16w4)");
  }
  // Whole steps of positions beside this chunk; 0: the least does not fit.
  const auto context_beside = [&](int32_t chunk) -> int32_t {
    const uint64_t taken = fixed + chunk_bytes(chunk);
    if (taken > limit) return 0;
    const uint64_t most = needs.position == 0 ? UINT64_MAX : (limit - taken) / needs.position;
    if (most >= static_cast<uint64_t>(needs.context)) return needs.context;
    return std::max(static_cast<int32_t>(most) / kContextStep * kContextStep,
                    most >= static_cast<uint64_t>(least_context) ? least_context : 0);
  };
  const int32_t context = context_beside(least_chunk);
  int32_t chunk = needs.chunk;
  while (chunk > least_chunk && context_beside(chunk) < context) chunk = std::max(least_chunk, chunk / 2);
  return plan(context, chunk);
}

}  // namespace mllm
