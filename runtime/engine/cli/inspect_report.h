// What is in a bundle or a MindIR file: facts for programs, as JSON. Sizes in bytes.
#ifndef MINDIR_LLM_CLI_INSPECT_REPORT_H_
#define MINDIR_LLM_CLI_INSPECT_REPORT_H_

#include <string>

namespace mllm::cli {

// Throw Failure. One file: the engine's description, with sums.
std::string graph_report(const std::string& path);
// The manifest's facts, the sizes that the engine found, and both graphs.
std::string bundle_report(const std::string& path);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_INSPECT_REPORT_H_
