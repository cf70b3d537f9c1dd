// A conversation with a model: what was said, what of it still fits, and the next answer.
#ifndef MINDIR_LLM_GENERATE_CONVERSATION_H_
#define MINDIR_LLM_GENERATE_CONVERSATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "generate/generator.h"
#include "text/template.h"

namespace mllm {

struct ConversationOptions {
  bool drop_oldest = false;  // where it no longer fits; otherwise that is a CAPACITY error
  std::string system = {};   // "": none
  std::optional<std::string> chat_template = {};  // none: the bundle's own
  std::string variables = "{}";                   // a JSON object: tools, enable_thinking, …
  std::optional<int64_t> local_time = {};         // what strftime_now writes; none: the clock's
};

class Conversation {
 public:
  // Throws INVALID_ARGUMENT where there is no template, and what ChatTemplate throws.
  Conversation(Generator& generator, const ConversationOptions& options);  // which must outlive it

  // Add what the user says, and the answer. On an error, and where it is cancelled before the first text, the
  // conversation is as before.
  Generation ask(std::string_view text, const GenerateOptions& options);
  // Add the answer to the messages as they are.
  Generation answer(const GenerateOptions& options);
  // Forget everything but the system message.
  void reset();
  void set_system(std::string_view text);  // "": none
  std::string messages_json() const;
  void load(std::string_view json);
  // Messages, the system's not counted, that the model no longer sees.
  size_t dropped() const { return dropped_; }

 private:
  struct Message {
    std::string role;
    std::string json;
  };
  static Message message(const char* role, std::string_view content);
  bool has_system() const { return !messages_.empty() && messages_[0].role == "system"; }
  std::vector<int32_t> prompt(int32_t max_tokens);
  std::vector<int32_t> ids(size_t dropped) const;
  std::optional<size_t> after_turn(size_t dropped) const;

  Generator& generator_;
  bool drop_oldest_;
  std::optional<int64_t> local_time_;
  std::optional<ChatTemplate> template_;
  std::string variables_;  // of the template but for the messages, without the braces around them
  std::vector<Message> messages_;
  size_t dropped_ = 0;
};

}  // namespace mllm

#endif  // MINDIR_LLM_GENERATE_CONVERSATION_H_
