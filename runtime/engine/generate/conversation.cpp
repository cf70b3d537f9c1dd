#include "generate/conversation.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "text/local_time.h"
#include "text/utf8.h"

namespace mllm {
namespace {

// What every template is given, unless the variables say otherwise.
std::string template_variables(const std::string& given, const text::Tokenizer& tokenizer) {
  const Json variables = Json::parse(given, "chat template variables");
  if (!variables.is_object()) fail_argument("chat template variables: must be a JSON object");
  if (variables.find("messages"))
    fail_argument("chat template variables: messages come from the conversation");
  std::string out;
  const auto add = [&](const char* name, const std::string& json) {
    if (!variables.find(name)) out += std::string(", \"") + name + "\": " + json;
  };
  add("tools", "null");
  add("documents", "null");
  add("add_generation_prompt", "true");
  const text::SpecialIds& ids = tokenizer.special_ids();
  if (ids.bos >= 0) add("bos_token", json_quoted(tokenizer.piece(ids.bos)));
  if (ids.eos >= 0) add("eos_token", json_quoted(tokenizer.piece(ids.eos)));
  for (const auto& [name, value] : variables.object())
    out += ", " + json_quoted(name) + ": " + json_text(value);
  return out;
}

std::string joined(const std::vector<std::string>& items) {
  std::string out = "[";
  for (const std::string& item : items) out += (out.size() > 1 ? ", " : "") + item;
  return out + "]";
}

}  // namespace

Conversation::Conversation(Generator& generator, const ConversationOptions& options)
    : generator_(generator), drop_oldest_(options.drop_oldest), local_time_(options.local_time) {
  Bundle& bundle = generator_.bundle();
  const text::Tokenizer* tokenizer = bundle.tokenizer();
  if (!tokenizer) fail_argument(bundle.path() + ": a chat needs a tokenizer, and the bundle has none");
  const auto& own = bundle.model().manifest().tokenizer->chat_template;
  if (!options.chat_template && !own) fail_argument(bundle.path() + ": has no chat template; give one");
  template_.emplace(options.chat_template ? *options.chat_template : *own);
  variables_ = template_variables(options.variables, *tokenizer);
  set_system(options.system);
}

Conversation::Message Conversation::message(const char* role, std::string_view content) {
  const size_t valid = text::valid_prefix(content);
  if (valid < content.size())
    fail_argument("the message is not valid UTF-8 (at byte " + std::to_string(valid) + ")");
  return {role, std::string("{\"role\": \"") + role +
                    "\", \"content\": " + json_quoted(std::string(content)) + "}"};
}

void Conversation::reset() {
  messages_.resize(has_system() ? 1 : 0);
  dropped_ = 0;
}

void Conversation::set_system(std::string_view text) {
  std::optional<Message> added;
  if (!text.empty()) added = message("system", text);
  if (has_system()) messages_.erase(messages_.begin());
  if (added) messages_.insert(messages_.begin(), std::move(*added));
}

Generation Conversation::ask(std::string_view text, const GenerateOptions& options) {
  messages_.push_back(message("user", text));
  const size_t before = messages_.size();
  try {
    Generation out = answer(options);
    if (messages_.size() == before) messages_.pop_back();  // cancelled before it said anything
    return out;
  } catch (...) {
    messages_.pop_back();
    throw;
  }
}

Generation Conversation::answer(const GenerateOptions& options) {
  Generation out = generator_.run(prompt(options.max_tokens), options);
  if (out.finish_reason != FinishReason::Cancelled || !out.text.empty())
    messages_.push_back(message("assistant", out.text));
  return out;
}

std::string Conversation::messages_json() const {
  std::vector<std::string> items;
  for (const Message& one : messages_) items.push_back(one.json);
  return json_text(Json::parse(joined(items), "messages"), 1);
}

void Conversation::load(std::string_view json) {
  std::vector<Message> loaded;
  const Json list = Json::parse(json, "messages");
  for (const Json& one : list.array()) {
    one.at("content");
    loaded.push_back({one.at("role").string(), json_text(one)});
  }
  messages_ = std::move(loaded);
  dropped_ = 0;
}

// The ids that the model is to continue.
std::vector<int32_t> Conversation::prompt(int32_t max_tokens) {
  const auto limit = static_cast<size_t>(generator_.bundle().model().manifest().max_seq_len);
  size_t dropped = dropped_;
  std::vector<int32_t> out = ids(dropped);
  size_t room = 1;
  if (drop_oldest_) {
    room = std::max<size_t>(1, std::min(max_tokens > 0 ? static_cast<size_t>(max_tokens) : limit, limit / 4));
  }
  while (out.size() + room > limit) {
    const auto following = drop_oldest_ ? after_turn(dropped) : std::nullopt;
    if (!following) {
      if (out.size() < limit) break;  // the last turn alone, with less room than wished for
      throw Error(MLLM_ERROR_CAPACITY,
                  "the conversation has " + std::to_string(out.size()) +
                      " tokens and the bundle's context holds " + std::to_string(limit) +
                      ": start anew, let the oldest turns be dropped, or export with a larger --max-seq-len");
    }
    dropped = *following;
    out = ids(dropped);
  }
  dropped_ = dropped;
  return out;
}

std::vector<int32_t> Conversation::ids(size_t dropped) const {
  const size_t first = has_system() ? 1 : 0;
  std::vector<std::string> visible;
  for (size_t i = 0; i < messages_.size(); ++i) {
    if (i < first || i >= first + dropped) visible.push_back(messages_[i].json);
  }
  const Json variables =
      Json::parse("{\"messages\": " + joined(visible) + variables_ + "}", "chat template variables");
  const std::string text = template_->render(variables, local_time_ ? *local_time_ : text::local_time_now());
  return generator_.encode(text, false);
}

// How many messages are gone when one turn more is: up to the next user message. None where the last turn
// would go.
std::optional<size_t> Conversation::after_turn(size_t dropped) const {
  const size_t first = has_system() ? 1 : 0;
  for (size_t i = first + dropped + 1; i < messages_.size(); ++i) {
    if (messages_[i].role == "user") return i - first;
  }
  return std::nullopt;
}

}  // namespace mllm
