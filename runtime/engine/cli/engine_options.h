// The options about how a bundle runs, and a bundle opened with them.
#ifndef MINDIR_LLM_CLI_ENGINE_OPTIONS_H_
#define MINDIR_LLM_CLI_ENGINE_OPTIONS_H_

#include "cli/handles.h"
#include "cli/options.h"

namespace mllm::cli {

inline constexpr Option kThreadsOption = {.name = "--threads",
                                          .metavar = "N",
                                          .help = "worker threads (default: one per physical core)",
                                          .kind = Kind::Integer,
                                          .low = 1,
                                          .high = 1024,
                                          .range = "None or an int in [1, 1024]",
                                          .shown_name = "threads"};
inline constexpr Option kExactOption = {
    .name = "--exact", .metavar = "", .help = "keep activations in float32 (slower; for quantized bundles)"};

inline constexpr Option kMaxMemoryOption = {
    .name = "--max-memory",
    .metavar = "SIZE",
    .help = "memory that the process may take, such as 512M or 1Gi: context and prefill chunk shrink to fit",
    .kind = Kind::Text};
inline constexpr Option kCoresOption = {
    .name = "--cores",
    .metavar = "LIST",
    .help = "processors to run on, such as 0-3,6 (default: those that the process may use)",
    .kind = Kind::Text};
inline constexpr std::string_view kPriorities[] = {"low", "normal", "high"};
inline constexpr Option kPriorityOption = {
    .name = "--priority",
    .metavar = "{low,normal,high}",
    .help = "how eagerly the system gives it a processor (default: normal)",
    .kind = Kind::Text,
    .choices = kPriorities};

// Bytes of "512M", "1.5Gi". Throws Failure.
uint64_t parse_size(std::string_view text);

// The bundle that the command's positional argument names. Throws Failure.
Model open_model(const Arguments& arguments);

// What a limit of memory has led to, on stderr.
void note_memory(const Model& model);

mllm_model_info info_of(const Model& model);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_ENGINE_OPTIONS_H_
