// Numbers as the user writes them, and as Python would show them.
#ifndef MINDIR_LLM_CLI_NUMBERS_H_
#define MINDIR_LLM_CLI_NUMBERS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mllm::cli {

// Nothing for what is none.
std::optional<uint64_t> parse_unsigned(std::string_view text);
std::optional<int64_t> parse_integer(std::string_view text);
bool is_integer(std::string_view text);  // of any size
std::optional<double> parse_number(std::string_view text);

std::string fixed(double number, int decimals);  // "12.3"

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_NUMBERS_H_
