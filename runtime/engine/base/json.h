// A strict JSON reader (RFC 8259) for manifests: bounded depth, no duplicate keys, UTF-8 checked.
#ifndef MINDIR_LLM_BASE_JSON_H_
#define MINDIR_LLM_BASE_JSON_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace mllm {

// A value that knows its path, so that every complaint can name it: "manifest.json: field model.vocab_size:
// …".
class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;  // in file order

  // Throws FORMAT with the byte offset. `file` is for messages.
  static Json parse(std::string_view text, const std::string& file);

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  const Json* find(std::string_view key) const;  // null when absent; throws FORMAT when this is no object
  const Json& at(std::string_view key) const;    // throws FORMAT naming the missing field
  // Throw FORMAT naming the field when the type or the range is wrong.
  bool boolean() const;
  int64_t integer(int64_t low, int64_t high) const;
  double number() const;
  const std::string& string() const;
  const Array& array() const;
  const Object& object() const;
  [[noreturn]] void fail(const std::string& why) const;

 private:
  friend class JsonParser;
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
  std::string path_;  // "manifest.json: field a.b[3]"
};

// A string as JSON writes it, quotation marks included.
std::string json_quoted(const std::string& text);

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_JSON_H_
