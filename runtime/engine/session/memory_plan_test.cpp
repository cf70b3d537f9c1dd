#include "session/memory_plan.h"

#include <string>

#include "base/testing.h"

namespace mllm {
namespace {

constexpr uint64_t kMega = 1'000'000;

// 10 MB of program, 100 MB of weights, 1 MB a position, 1 MB a token of a chunk.
MemoryNeeds needs() {
  return {.program = 10 * kMega,
          .weights = 100 * kMega,
          .loading = 5 * kMega,
          .position = kMega,
          .context = 1024,
          .chunk = 256};
}

uint64_t chunk_bytes(int32_t chunk) {
  return static_cast<uint64_t>(chunk) * kMega;
}

MemoryPlan plan(uint64_t megabytes, const MemoryNeeds& n = needs()) {
  return plan_memory("bundle", megabytes * kMega, n, chunk_bytes);
}

std::string refusal(uint64_t limit, const MemoryNeeds& n = needs()) {
  try {
    plan_memory("bundle", limit, n, chunk_bytes);
  } catch (const Error& e) {
    CHECK_EQ(e.status(), MLLM_ERROR_OUT_OF_MEMORY);
    return e.what();
  }
  return "";
}

TEST(what_fits_stays_as_it_is) {
  const MemoryPlan all = plan(110 + 1024 + 256);
  CHECK_EQ(all.context, 1024);
  CHECK_EQ(all.chunk, 256);
  CHECK_EQ(all.peak, (110 + 1024 + 256) * kMega);
  CHECK_EQ(all.session, (1024 + 256) * kMega);
  CHECK_EQ(plan(1'000'000).peak, all.peak);
}

TEST(chunks_shrink_before_the_context_does) {
  CHECK_EQ(plan(110 + 1024 + 255).chunk, 128);
  CHECK_EQ(plan(110 + 1024 + 64).chunk, 64);
  CHECK_EQ(plan(110 + 1024 + 32).chunk, 32);
  for (const uint64_t chunk : {32, 64, 128, 255}) CHECK_EQ(plan(110 + 1024 + chunk).context, 1024);
}

TEST(the_context_shrinks_in_steps_of_16) {
  const MemoryPlan short_one = plan(110 + 1023 + 32);
  CHECK_EQ(short_one.context, 1008);
  CHECK_EQ(short_one.chunk, 32);
  // What a step leaves over may do for a larger chunk.
  CHECK_EQ(plan(110 + 100 + 32).context, 96);
  const MemoryNeeds wide{.program = 0, .weights = 0, .position = 4 * kMega, .context = 1024, .chunk = 64};
  const MemoryPlan more = plan_memory("bundle", (4 * 127 + 32) * kMega, wide, chunk_bytes);
  CHECK_EQ(more.context, 112);
  CHECK_EQ(more.chunk, 64);
}

TEST(every_limit_is_kept_or_refused_with_what_would_do) {
  for (uint64_t limit = 0; limit < 1500; ++limit) {
    if (limit < 110 + 64 + 32) {
      CHECK(refusal(limit * kMega).find("needs 206.0 MB at least") != std::string::npos);
      continue;
    }
    const MemoryPlan p = plan(limit);
    CHECK(p.peak <= limit * kMega);
    CHECK(p.context >= kLeastContext && p.context <= 1024 && p.chunk >= kLeastChunk && p.chunk <= 256);
    // No step more would have fitted.
    CHECK(p.context == 1024 || p.peak + (16 + 224) * kMega > limit * kMega);
  }
}

TEST(the_refusal_says_where_memory_goes) {
  CHECK_EQ(
      refusal(50 * kMega + 1),
      "bundle: max_memory is 50000001 bytes, but it needs 206.0 MB at least (weights 100.0 MB, program "
      "10.0 MB, a context of 64 64.0 MB, intermediate values 32.0 MB); allow it more, or export the model "
      "in fewer bits (--quant a16w4)");
}

TEST(loading_counts_where_it_needs_more_than_running) {
  MemoryNeeds n = needs();
  n.loading = 2000 * kMega;
  CHECK_EQ(plan(5000, n).peak, 2110 * kMega);
  CHECK(refusal(2109 * kMega, n).find("2110.0 MB") != std::string::npos);
}

TEST(small_bundles_and_fixed_graphs_do_not_shrink) {
  MemoryNeeds n = needs();
  n.context = 48;
  n.chunk = 7;
  CHECK_EQ(plan(110 + 55, n).context, 48);
  CHECK_EQ(plan(110 + 55, n).chunk, 7);
  CHECK(!refusal((110 + 55) * kMega - 1, n).empty());
  MemoryNeeds fixed = needs();
  fixed.can_shrink = false;
  CHECK_EQ(plan(110 + 1024 + 256, fixed).chunk, 256);
  CHECK(!refusal((110 + 1024 + 256) * kMega - 1, fixed).empty());
}

TEST(the_plan_in_words) {
  CHECK_EQ(plan_text(plan(110 + 512 + 32), needs()), "context 512 of 1024, prefill chunk 32 of 256");
  CHECK_EQ(megabytes(0), "0.0 MB");
  CHECK_EQ(megabytes(1), "0.1 MB");
  CHECK_EQ(megabytes(12'300'000), "12.3 MB");
  CHECK_EQ(megabytes(12'300'001), "12.4 MB");
  CHECK_EQ(megabytes(UINT64_MAX), "18446744073709.6 MB");
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
