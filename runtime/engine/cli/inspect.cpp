// `mindir-llm inspect`: what is in a bundle or a MindIR file.
#include <sys/stat.h>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/failure.h"
#include "cli/files.h"
#include "cli/inspect_report.h"
#include "cli/inspect_text.h"

namespace mllm::cli {
namespace {

constexpr Option kOwn[] = {{.name = "--json", .metavar = "", .help = "print everything as JSON"}};
constexpr OptionGroup kGroups[] = {{"options", kOwn}};

int run(const Arguments& arguments) {
  const std::string& path = arguments.positional();
  struct stat info{};
  const bool is_folder = ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  const Json report = Json::parse(is_folder ? bundle_report(path) : graph_report(path), "report");
  write_out((arguments.has("--json") ? json_text(report, 2) : report_text(report)) + "\n");
  return kDone;
}

}  // namespace

const Command kInspect = {
    .name = "inspect",
    .summary = "show what is in a bundle or a MindIR file",
    .description = "Show inputs, outputs, operators, weights, quantization and memory.",
    .examples =
        "examples:\n"
        "  mindir-llm inspect bundle\n"
        "  mindir-llm inspect bundle/decode.mindir\n"
        "  mindir-llm inspect bundle --json | jq .memory\n",
    .positional = "BUNDLE|FILE.mindir",
    .positional_help = "a bundle's directory, or one graph",
    .groups = kGroups,
    .run = run,
};

}  // namespace mllm::cli
