#include "text/local_time.h"

#include <ctime>

namespace mllm::text {

int64_t local_time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
#if defined(_WIN32)
  localtime_s(&local, &now);
  return static_cast<int64_t>(_mkgmtime(&local));
#else
  localtime_r(&now, &local);
  return static_cast<int64_t>(now) + local.tm_gmtoff;
#endif
}

}  // namespace mllm::text
