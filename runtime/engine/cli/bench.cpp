// `mindir-llm bench`: speed, memory and load time of a bundle, against what the machine could do.
#include <algorithm>
#include <limits>

#include "base/json.h"
#include "cli/bench_measure.h"
#include "cli/bench_report.h"
#include "cli/commands.h"
#include "cli/engine_options.h"
#include "cli/failure.h"
#include "cli/files.h"
#include "cli/numbers.h"

namespace mllm::cli {
namespace {

constexpr Option kOwn[] = {
    {.name = "--threads",
     .metavar = "N",
     .help = "default: one per physical core",
     .kind = Kind::Integer,
     .low = 1,
     .high = 1024,
     .range = "an int in [1, 1024]",
     .shown_name = "threads"},
    kCoresOption,
    kPriorityOption,
    kMaxMemoryOption,
    {.name = "--repeat",
     .metavar = "N",
     .help = "repetitions (default: 5, with --quick 2)",
     .kind = Kind::Integer,
     .low = 1,
     .high = 1000000,
     .range = "an int in [1, 1000000]",
     .shown_name = "repeat"},
    {.name = "--prefill",
     .metavar = "N,N…",
     .help = "prompt lengths (default: 32,128,512,1536)",
     .kind = Kind::Text},
    {.name = "--contexts",
     .metavar = "N,N…",
     .help = "tokens in the cache when decoding starts (default: 16,512,1024,1900)",
     .kind = Kind::Text},
    {.name = "--quick", .metavar = "", .help = "few and short pieces: a check, not a result"},
    {.name = "--exact", .metavar = "", .help = "keep activations in floating point"},
    {.name = "--profile", .metavar = "", .help = "print instead where time goes, per operator"},
    {.name = "--json", .metavar = "FILE", .help = "write the report as JSON as well", .kind = Kind::Text},
};
constexpr OptionGroup kGroups[] = {{"options", kOwn}};
constexpr std::string_view kPythonOnly[] = {"--shape", "--quant", "--kv-dtype", "--workdir",
                                            "--fresh", "--plot",  "--tokenizer"};

std::vector<int32_t> lengths(const Arguments& arguments, const char* name, std::vector<int32_t> otherwise) {
  const auto text = arguments.text(name);
  if (!text) return otherwise;
  std::vector<int32_t> out;
  for (size_t at = 0; at <= text->size();) {
    const size_t end = std::min(text->find(',', at), text->size());
    const auto number = parse_integer(std::string_view(*text).substr(at, end - at));
    if (!number || *number < 1 || *number > std::numeric_limits<int32_t>::max() / 2)
      throw Failure("argument " + std::string(name) + ": " + *text + ": lengths are positive integers");
    out.push_back(static_cast<int32_t>(*number));
    at = end + 1;
  }
  return out;
}

int run(const Arguments& arguments) {
  BenchPlan plan = arguments.has("--quick") ? quick_plan() : full_plan();
  plan.repeat = static_cast<int32_t>(arguments.integer("--repeat").value_or(plan.repeat));
  plan.prefill = lengths(arguments, "--prefill", plan.prefill);
  plan.contexts = lengths(arguments, "--contexts", plan.contexts);
  const auto json_file = arguments.text("--json");
  if (json_file) write_file(*json_file, "");  // before minutes are spent
  const BenchFacts facts = facts_of(arguments);
  std::vector<std::string> notes;
  fit(plan, facts.info.max_seq_len, notes);
  if (arguments.has("--profile")) {
    const std::string json = profile(arguments, plan);
    write_out(profile_text(Json::parse(json, "profile"), facts, plan));
    if (json_file) write_file(*json_file, json_text(Json::parse(json, "profile"), 2) + "\n");
    return kDone;
  }
  const BenchTimes times = measure(arguments, plan);
  const Json report = Json::parse(bench_json(facts, plan, times, notes), "report");
  write_out(bench_text(report));
  if (json_file) write_file(*json_file, json_text(report, 2) + "\n");
  return kDone;
}

}  // namespace

const Command kBench = {
    .name = "bench",
    .summary = "measure a bundle's speed, memory and load time",
    .description =
        "Measure a bundle: prefill and decode speed, time to the first token, load time, peak memory, and "
        "how near "
        "they come to what this machine's memory and multipliers can do. Every number is a median of "
        "repetitions, "
        "with their range; load time and memory are measured in fresh processes.",
    .examples =
        "examples:\n"
        "  mindir-llm bench bundle\n"
        "  mindir-llm bench bundle --profile --threads 1\n"
        "  mindir-llm bench bundle --prefill 512 --contexts 16,1024 --json bundle.json\n",
    .positional = "BUNDLE",
    .positional_help = "directory that `mindir-llm export` wrote",
    .groups = kGroups,
    .python_only = kPythonOnly,
    .without_python =
        "it exports bundles of random weights, measures tokenizers and draws plots, also from what --json "
        "writes here",
    .run = run,
};

}  // namespace mllm::cli
