#include "cli/numbers.h"

#include <charconv>
#include <cstdio>

namespace mllm::cli {
namespace {

std::string_view without_plus(std::string_view text) {
  if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.remove_prefix(1);
  return text;
}

template <class T>
std::optional<T> parse(std::string_view text) {
  text = without_plus(text);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<uint64_t> parse_unsigned(std::string_view text) {
  return parse<uint64_t>(text);
}

std::optional<int64_t> parse_integer(std::string_view text) {
  return parse<int64_t>(text);
}

bool is_integer(std::string_view text) {
  text = without_plus(text);
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

std::optional<double> parse_number(std::string_view text) {
  return parse<double>(text);
}

std::string fixed(double number, int decimals) {
  char buffer[400];
  std::snprintf(buffer, sizeof buffer, "%.*f", decimals, number);
  return buffer;
}

}  // namespace mllm::cli
