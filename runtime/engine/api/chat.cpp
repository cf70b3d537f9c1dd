// The C interface of conversations.
#include <cstddef>
#include <string>
#include <utility>

#include "api/errors.h"
#include "api/generate_options.h"
#include "api/handles.h"
#include "api/structs.h"
#include "generate/conversation.h"

using mllm::api::guard;
using mllm::api::require;
using mllm::api::Usage;

namespace {

constexpr size_t kFirstOptions = offsetof(mllm_chat_options, local_time) + sizeof(int64_t);

struct ChatState {
  ChatState(std::shared_ptr<mllm::api::GeneratorState> of, const mllm::ConversationOptions& options)
      : generator(std::move(of)), conversation(generator->generator, options) {}
  Usage usage{"chat"};
  std::shared_ptr<mllm::api::GeneratorState> generator;
  mllm::Conversation conversation;
  mllm::Generation last = {};  // what the last answer handed out
  std::string messages = {};   // what mllm_chat_messages handed out
};

mllm::ConversationOptions read_options(const mllm_chat_options* given) {
  const auto o = mllm::api::read_struct(given, kFirstOptions, "mllm_chat_options");
  if (o.context_full != MLLM_CONTEXT_STOP && o.context_full != MLLM_CONTEXT_DROP)
    mllm::fail_argument("context_full is " + std::to_string(o.context_full) + ", no mllm_context_full");
  mllm::ConversationOptions out;
  out.drop_oldest = o.context_full == MLLM_CONTEXT_DROP;
  if (o.system) out.system = o.system;
  if (o.chat_template) out.chat_template = o.chat_template;
  if (o.variables) out.variables = o.variables;
  if (o.local_time) out.local_time = o.local_time;
  return out;
}

template <class F>
void answer(ChatState& state, const mllm_generate_options* options, mllm_generation* generation, F&& run) {
  const Usage::Call call(state.usage);
  const Usage::Call generating(state.generator->usage);
  mllm::Generation done = run(mllm::api::read_generate_options(options));
  call.check_open();
  generating.check_open();
  state.last = std::move(done);
  mllm::api::write_generation(state.last, state.conversation.dropped(), generation);
}

}  // namespace

struct mllm_chat {
  std::shared_ptr<ChatState> state;
};

extern "C" {

mllm_status mllm_chat_create(mllm_generator* generator, const mllm_chat_options* options, mllm_chat** chat) {
  return guard([&] {
    require(generator, "generator");
    require(chat, "chat");
    *chat = nullptr;
    *chat = new mllm_chat{std::make_shared<ChatState>(generator->state, read_options(options))};
  });
}

void mllm_chat_close(mllm_chat* chat) {
  if (!chat) return;
  const auto state = chat->state;
  state->usage.close([&] { state->generator->usage.cancel(); });
  delete chat;
}

mllm_status mllm_chat_ask(mllm_chat* chat, const char* text, size_t text_bytes,
                          const mllm_generate_options* options, mllm_generation* generation) {
  return guard([&] {
    require(chat, "chat");
    if (text_bytes) require(text, "text");
    const auto state = chat->state;
    answer(*state, options, generation, [&](const mllm::GenerateOptions& wanted) {
      return state->conversation.ask({text, text_bytes}, wanted);
    });
  });
}

mllm_status mllm_chat_answer(mllm_chat* chat, const mllm_generate_options* options,
                             mllm_generation* generation) {
  return guard([&] {
    require(chat, "chat");
    const auto state = chat->state;
    answer(*state, options, generation,
           [&](const mllm::GenerateOptions& wanted) { return state->conversation.answer(wanted); });
  });
}

mllm_status mllm_chat_reset(mllm_chat* chat) {
  return guard([&] {
    require(chat, "chat");
    const auto state = chat->state;
    const Usage::Call call(state->usage);
    state->conversation.reset();
  });
}

mllm_status mllm_chat_set_system(mllm_chat* chat, const char* text) {
  return guard([&] {
    require(chat, "chat");
    const auto state = chat->state;
    const Usage::Call call(state->usage);
    state->conversation.set_system(text ? text : "");
  });
}

mllm_status mllm_chat_messages(mllm_chat* chat, const char** json, size_t* json_bytes) {
  return guard([&] {
    require(chat, "chat");
    require(json, "json");
    require(json_bytes, "json_bytes");
    const auto state = chat->state;
    const Usage::Call call(state->usage);
    state->messages = state->conversation.messages_json();
    *json = state->messages.c_str();
    *json_bytes = state->messages.size();
  });
}

mllm_status mllm_chat_load(mllm_chat* chat, const char* json, size_t json_bytes) {
  return guard([&] {
    require(chat, "chat");
    require(json, "json");
    const auto state = chat->state;
    const Usage::Call call(state->usage);
    state->conversation.load({json, json_bytes});
  });
}
}
