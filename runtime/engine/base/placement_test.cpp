#include "base/placement.h"

#include <sched.h>
#include <sys/resource.h>

#include <string>
#include <thread>
#include <vector>

#include "base/testing.h"
#include "base/thread_pool.h"

namespace mllm {
namespace {

TEST(lists_of_cores) {
  CHECK((parse_cores("0") == std::vector<int>{0}));
  CHECK((parse_cores("0-3,6") == std::vector<int>{0, 1, 2, 3, 6}));
  CHECK((parse_cores("6,1-2,2") == std::vector<int>{1, 2, 6}));
  for (const char* wrong : {"", ",", "0,", ",0", "-1", "1-", "3-1", "a", "0 1", "0x1", "1--2", "1-2-3", " 0",
                            "99999999999999999999", "0-4000000000", "1024"}) {
    CHECK_THROWS(parse_cores(wrong), MLLM_ERROR_INVALID_ARGUMENT);
  }
}

// In a thread of its own, because what it changes stays.
template <class F>
void aside(const F& f) {
  std::thread(f).join();
}

TEST(threads_of_a_pool_stay_on_the_cores) {
  aside([] {
    cpu_set_t before, now;
    sched_getaffinity(0, sizeof before, &before);
    int core = 0;
    while (!CPU_ISSET(core, &before)) ++core;
    use_cores(std::to_string(core));
    const ThreadPool one(0);
    CHECK_EQ(one.threads(), 1);  // there is one core now
    ThreadPool pool(3);
    pool.parallel_for(64, 1, [&](int64_t, int64_t) {
      CHECK_EQ(sched_getcpu(), core);
      cpu_set_t mask;
      sched_getaffinity(0, sizeof mask, &mask);
      CHECK_EQ(CPU_COUNT(&mask), 1);
    });
    try {
      use_cores("1023");
      CHECK(false);
    } catch (const Error& e) {
      CHECK_EQ(std::string(e.what()),
               "cores is '1023': there is no core 1023, or this process may not use it; it may use " +
                   std::to_string(core));
    }
    sched_getaffinity(0, sizeof now, &now);
    CHECK_EQ(CPU_COUNT(&now), 1);
  });
}

TEST(a_low_priority_is_inherited_and_kept) {
  aside([] {
    use_priority(Priority::Normal);
    const int before = getpriority(PRIO_PROCESS, 0);
    use_priority(Priority::Low);
    const int low = getpriority(PRIO_PROCESS, 0);
    CHECK_EQ(low, before > 10 ? before : 10);
    aside([low] { CHECK_EQ(getpriority(PRIO_PROCESS, 0), low); });
    use_priority(Priority::Low);
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), low);
  });
}

// Folders with a /proc and a /sys of our own.
TEST(quotas_of_control_groups) {
  CHECK(!cpu_quota("/nowhere"));
  const testing::Folder v2;
  v2.write("proc/self/cgroup", "0::/a/b\n");
  CHECK(!cpu_quota(v2.path()));
  v2.write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  CHECK(!cpu_quota(v2.path()));
  v2.write("sys/fs/cgroup/a/cpu.max", "150000 100000\n");  // of the group above
  CHECK_EQ(cpu_quota(v2.path()).value_or(0), 1.5);
  v2.write("sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
  CHECK_EQ(cpu_quota(v2.path()).value_or(0), 0.5);
  v2.write("proc/self/cgroup", "0::/\n");  // as a container sees it
  v2.write("sys/fs/cgroup/cpu.max", "300000 100000\n");
  CHECK_EQ(cpu_quota(v2.path()).value_or(0), 3.0);
  for (const char* wrong : {"", "\n", "x y", "100000", "100000 0", "-1 100000", "100000 -1"}) {
    v2.write("sys/fs/cgroup/cpu.max", wrong);
    CHECK(!cpu_quota(v2.path()));
  }
  const testing::Folder v1;
  v1.write("proc/self/cgroup", "12:memory:/x\n4:cpu,cpuacct:/box\n0::/\nnonsense\n");
  v1.write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "200000\n");
  v1.write("sys/fs/cgroup/cpu/box/cpu.cfs_period_us", "100000\n");
  CHECK_EQ(cpu_quota(v1.path()).value_or(0), 2.0);
  v1.write("sys/fs/cgroup/cpu/box/cpu.cfs_quota_us", "-1\n");
  CHECK(!cpu_quota(v1.path()));
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
