// A strict JSON reader (RFC 8259): bounded depth, no duplicate keys, UTF-8 checked. Json is a document in
// memory; JsonReader walks through one that is too large for that.
#ifndef MINDIR_LLM_BASE_JSON_H_
#define MINDIR_LLM_BASE_JSON_H_

#include <cstddef>
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
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }
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
  // f(std::monostate | bool | int64_t | double | std::string | Array | Object), for values of any kind.
  template <class F>
  decltype(auto) visit(F&& f) const {
    return std::visit(std::forward<F>(f), value_);
  }

 private:
  friend class JsonReader;
  std::variant<std::monostate, bool, int64_t, double, std::string, Array, Object> value_;
  std::string path_;  // "manifest.json: field a.b[3]"
};

// Walks through a document in its order. A copy of a reader is a place to come back to.
class JsonReader {
 public:
  // `text` and `file` (for messages) must outlive it.
  JsonReader(std::string_view text, const std::string& file) : text_(text), file_(&file) {}

  // Each reads one value; throws FORMAT with the byte offset when the next value is of another kind.
  std::string string();
  int64_t integer(int64_t low, int64_t high);
  Json value(const std::string& path);  // `path` for the messages of what is returned
  void skip();
  // Calls member(key), which must read one value; duplicate keys are not noticed.
  template <class F>
  void object(F&& member) {
    open('{', "an object");
    if (close('}')) return;
    do {
      member(key());
    } while (comma());
    if (!close('}')) fail("'}' is missing");
  }
  // Calls item(), which must read one value.
  template <class F>
  void array(F&& item) {
    open('[', "a list");
    if (close(']')) return;
    do {
      item();
    } while (comma());
    if (!close(']')) fail("']' is missing");
  }

  char next_kind();  // the next value's first character
  void end();        // throws FORMAT when anything follows
  [[noreturn]] void fail(const std::string& why) const;

 private:
  void space();
  bool take(char c);
  void open(char c, const char* what);
  bool close(char c);
  bool comma();
  std::string key();
  void word(std::string_view w);
  Json value(const std::string& path, int depth);
  Json::Object members(const std::string& path, int depth);
  Json::Array items(const std::string& path, int depth);
  void number(Json& out);
  std::string quoted();
  void escape(std::string& out);
  uint32_t hex4();
  void multibyte(std::string& out);

  std::string_view text_;
  const std::string* file_;
  size_t at_ = 0;
};

// A string as JSON writes it, quotation marks included.
std::string json_quoted(const std::string& text);

// A value as Python's json.dumps writes it with ensure_ascii=False; indent below 0: on one line.
std::string json_text(const Json& value, int indent = -1);

}  // namespace mllm

#endif  // MINDIR_LLM_BASE_JSON_H_
