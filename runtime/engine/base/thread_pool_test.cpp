#include "base/thread_pool.h"

#include <atomic>
#include <thread>
#include <vector>

#include "base/testing.h"

namespace mllm {
namespace {

TEST(pieces_cover_the_range_once) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    CHECK_EQ(pool.threads(), threads);
    for (const int64_t count : {0, 1, 7, 100, 1000}) {
      for (const int64_t grain : {int64_t{-1}, int64_t{1}, int64_t{3}, int64_t{2000}}) {
        std::vector<std::atomic<int>> seen(static_cast<size_t>(count));
        pool.parallel_for(count, grain, [&](int64_t begin, int64_t end) {
          CHECK(begin < end && end <= count);
          for (int64_t i = begin; i < end; ++i) ++seen[static_cast<size_t>(i)];
        });
        for (const auto& n : seen) CHECK_EQ(n.load(), 1);
      }
    }
  }
}

TEST(many_short_loops_see_each_others_results) {
  ThreadPool pool(4);
  std::vector<int64_t> values(64, 0);
  for (int round = 0; round < 2000; ++round) {
    pool.parallel_for(64, 4, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) values[static_cast<size_t>(i)] += i;
    });
  }
  for (int64_t i = 0; i < 64; ++i) CHECK_EQ(values[static_cast<size_t>(i)], 2000 * i);
}

TEST(sleeping_workers_wake) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum = 0;
  for (int round = 0; round < 20; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    pool.parallel_for(10, 1, [&](int64_t begin, int64_t) { sum += begin; });
  }
  CHECK_EQ(sum.load(), 20 * 45);
}

TEST(an_exception_arrives_after_all_pieces_ended) {
  ThreadPool pool(3);
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> done = 0;
    const auto body = [&](int64_t begin, int64_t) {
      ++done;
      if (begin == 5) fail_argument("piece 5");
    };
    CHECK_THROWS(pool.parallel_for(20, 1, body), MLLM_ERROR_INVALID_ARGUMENT);
    CHECK_EQ(done.load(), 20);
    pool.parallel_for(4, 1, [](int64_t, int64_t) {});  // and the pool goes on working
  }
}

TEST(callers_in_several_threads) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum = 0;
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round) {
        pool.parallel_for(8, 1, [&](int64_t begin, int64_t) { sum += begin; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  CHECK_EQ(sum.load(), 3 * 200 * 28);
}

TEST(there_is_at_least_one_core) {
  CHECK(physical_cores() >= 1);
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
