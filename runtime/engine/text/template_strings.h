// Python's str methods on UTF-8: what templates do with text, code point by code point. Every string in here
// is valid UTF-8: sources and variables are checked where they come in.
#ifndef MINDIR_LLM_TEXT_TEMPLATE_STRINGS_H_
#define MINDIR_LLM_TEXT_TEMPLATE_STRINGS_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mllm::jinja {

void append_utf8(std::string& out, char32_t point);
char32_t next_code_point(std::string_view text, size_t& at);  // moves `at` behind it
std::u32string to_code_points(std::string_view text);
std::string from_code_points(std::u32string_view points);
size_t count_code_points(std::string_view text);
// Where the code point with this number begins; text.size() behind the last one.
size_t byte_offset(std::string_view text, size_t code_point);
bool is_valid_utf8(std::string_view text);

bool is_space(char32_t point);  // str.isspace
std::string lower(std::string_view text);
std::string upper(std::string_view text);
std::string title(std::string_view text);       // every word, as str.title
std::string capitalize(std::string_view text);  // the first letter, as str.capitalize
bool is_lower(std::string_view text);
bool is_upper(std::string_view text);
bool is_alpha(char32_t point);    // str.isalpha, and so on
bool is_decimal(char32_t point);  // digits of a positional system
bool is_digit(char32_t point);    // and superscripts, circled ones, …
bool is_numeric(char32_t point);  // and fractions, Roman and Chinese numerals, …

// `characters`: which to take off; none: white space.
std::string_view strip(std::string_view text, const std::optional<std::string>& characters, bool left,
                       bool right);
// `separator`: none is runs of white space. `limit` < 0: no limit.
std::vector<std::string> split(std::string_view text, const std::optional<std::string>& separator,
                               int64_t limit);
std::vector<std::string> split_right(std::string_view text, const std::optional<std::string>& separator,
                                     int64_t limit);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);
std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t limit);

std::string repr(std::string_view text);                                // with quotation marks
std::string repr(double number);                                        // the shortest that reads back
std::string json_string(std::string_view text, bool ascii_only);        // with quotation marks
std::optional<double> parse_float(std::string_view text);               // float(text)
std::optional<int64_t> parse_int(std::string_view text, int64_t base);  // int(text, base), within 64 bits

}  // namespace mllm::jinja

#endif  // MINDIR_LLM_TEXT_TEMPLATE_STRINGS_H_
