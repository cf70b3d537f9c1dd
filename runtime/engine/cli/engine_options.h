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

// The bundle that the command's positional argument names. Throws Failure.
Model open_model(const Arguments& arguments);

mllm_model_info info_of(const Model& model);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_ENGINE_OPTIONS_H_
