// A report about a bundle or a graph, to be read.
#ifndef MINDIR_LLM_CLI_INSPECT_TEXT_H_
#define MINDIR_LLM_CLI_INSPECT_TEXT_H_

#include <string>

#include "base/json.h"

namespace mllm::cli {

// Either report of inspect_report.h.
std::string report_text(const Json& report);

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_INSPECT_TEXT_H_
