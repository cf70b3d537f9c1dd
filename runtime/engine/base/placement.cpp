#include "base/placement.h"

#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/file.h"

namespace mllm {
namespace {

constexpr int kMostCores = CPU_SETSIZE;
constexpr int kLowNice = 10;
constexpr int kHighNice = -10;

std::string_view next_word(std::string_view& text) {
  const size_t begin = std::min(text.find_first_not_of(" \n"), text.size());
  const size_t end = std::min(text.find_first_of(" \n", begin), text.size());
  const std::string_view word = text.substr(begin, end - begin);
  text.remove_prefix(end);
  return word;
}

// quota / period in cores; nothing where one is no positive number: "max", -1.
std::optional<double> cores_of(std::string_view quota, std::string_view period) {
  int64_t q = 0, p = 0;
  std::from_chars(quota.data(), quota.data() + quota.size(), q);
  std::from_chars(period.data(), period.data() + period.size(), p);
  if (q <= 0 || p <= 0) return std::nullopt;
  return static_cast<double>(q) / static_cast<double>(p);
}

// The quota of one control group: version 2 has both numbers in cpu.max, version 1 each in a file.
std::optional<double> group_quota(const std::string& folder, bool is_v2) {
  if (is_v2) {
    const std::string text = system_text(folder + "/cpu.max");
    std::string_view rest = text;
    const std::string_view quota = next_word(rest);
    return cores_of(quota, next_word(rest));
  }
  return cores_of(system_text(folder + "/cpu.cfs_quota_us"), system_text(folder + "/cpu.cfs_period_us"));
}

}  // namespace

std::vector<int> parse_cores(std::string_view list) {
  const auto fail = [&] {
    fail_argument("cores is '" + std::string(list) + "', expected numbers and ranges such as 0-3,6");
  };
  std::vector<int> cores;
  const auto number = [&](const char*& at, const char* end) {
    int value = 0;
    const auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc() || value < 0 || value >= kMostCores) fail();
    at = next;
    return value;
  };
  const char* at = list.data();
  const char* const end = at + list.size();
  while (true) {
    const int first = number(at, end);
    int last = first;
    if (at != end && *at == '-') last = number(++at, end);
    if (last < first) fail();
    for (int core = first; core <= last; ++core) cores.push_back(core);
    if (at == end) break;
    if (*at++ != ',') fail();
  }
  std::ranges::sort(cores);
  cores.erase(std::unique(cores.begin(), cores.end()), cores.end());
  return cores;
}

void use_cores(std::string_view list) {
  cpu_set_t allowed, wanted;
  CPU_ZERO(&allowed);
  CPU_ZERO(&wanted);
  const std::vector<int> cores = parse_cores(list);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
    fail_unsupported(std::string("cores: the system does not tell which there are: ") + std::strerror(errno));
  }
  for (const int core : cores) {
    if (!CPU_ISSET(core, &allowed)) {
      std::string usable;
      for (int i = 0; i < kMostCores; ++i) {
        if (!CPU_ISSET(i, &allowed)) continue;
        const int first = i;
        while (i + 1 < kMostCores && CPU_ISSET(i + 1, &allowed)) ++i;
        usable +=
            (usable.empty() ? "" : ",") + std::to_string(first) + (i > first ? "-" + std::to_string(i) : "");
      }
      fail_argument("cores is '" + std::string(list) + "': there is no core " + std::to_string(core) +
                    ", or this process may not use it; it may use " + usable);
    }
    CPU_SET(core, &wanted);
  }
  if (::sched_setaffinity(0, sizeof wanted, &wanted) != 0) {
    fail_argument("cores is '" + std::string(list) + "': " + std::strerror(errno));
  }
}

void use_priority(Priority priority) {
  if (priority == Priority::Normal) return;
  // Of the calling thread: Linux has a nice value for each.
  errno = 0;
  const int now = ::getpriority(PRIO_PROCESS, 0);
  if (now == -1 && errno != 0) fail_unsupported(std::string("priority: ") + std::strerror(errno));
  const bool is_low = priority == Priority::Low;
  const int wanted = is_low ? std::max(now, kLowNice) : std::min(now, kHighNice);
  if (wanted == now || ::setpriority(PRIO_PROCESS, 0, wanted) == 0) return;
  fail_argument(std::string("priority is '") + (is_low ? "low" : "high") + "': a nice value of " +
                std::to_string(wanted) + " is not allowed here (" + std::strerror(errno) +
                "); it takes root, CAP_SYS_NICE or a higher `ulimit -e`");
}

std::optional<double> cpu_quota(const std::string& root) {
  std::optional<double> least;
  const std::string groups = system_text(root + "/proc/self/cgroup");
  std::string_view rest = groups;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    // "number:controllers:/path"; version 2 has no controllers.
    const size_t first = line.find(':');
    const size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const bool is_v2 = controllers.empty();
    if (!is_v2 && ("," + std::string(controllers) + ",").find(",cpu,") == std::string::npos) continue;
    const std::string mount = root + "/sys/fs/cgroup" + (is_v2 ? "" : "/cpu");
    // A group is bound by those above it too. In a container the path may be that of the host: what is not
    // there has no limit.
    std::string path(line.substr(second + 1));
    while (true) {
      if (path == "/") path.clear();
      const auto quota = group_quota(mount + path, is_v2);
      if (quota && (!least || *quota < *least)) least = quota;
      const size_t slash = path.rfind('/');
      if (path.empty() || slash == path.npos) break;
      path.resize(slash);
    }
  }
  return least;
}

}  // namespace mllm
