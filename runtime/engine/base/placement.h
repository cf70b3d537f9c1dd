// Where the threads of this process run, and before whom.
#ifndef MINDIR_LLM_BASE_PLACEMENT_H_
#define MINDIR_LLM_BASE_PLACEMENT_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mllm {

// "0-3,6" as numbers in order. Throws INVALID_ARGUMENT for anything else.
std::vector<int> parse_cores(std::string_view list);

// Confine the calling thread, and the threads that it starts from now on, to some of the cores that it may
// use. Throws INVALID_ARGUMENT, before anything changes, naming a core that does not exist or that this
// process may not use; UNSUPPORTED where the system cannot do it.
void use_cores(std::string_view list);

// How eagerly the system gives the calling thread, and those that it starts, a core.
enum class Priority { Normal, Low, High };  // Normal: as it is
// Throws INVALID_ARGUMENT where the system does not allow it.
void use_priority(Priority priority);

// How many cores' time the control groups of this process may take; nothing where there is no limit. root:
// the folder where /proc and /sys are, "" but in tests.
std::optional<double> cpu_quota(const std::string& root);

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_PLACEMENT_H_
