// Generators and chats through the C interface, over the bundles that MINDIR_LLM_TEST_BUNDLES names: the loop
// against a plain one over session and sampler, prefix reuse, cancelling, closing, several threads.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/testing.h"
#include "include/mindir_llm.h"

namespace mllm {
namespace {

void must(mllm_status status) {
  if (status != MLLM_OK) throw std::runtime_error(mllm_last_error());
}

struct Opened {
  explicit Opened(const std::string& path, int32_t threads = 2) {
    mllm_model_options options{};
    options.struct_size = sizeof options;
    options.threads = threads;
    must(mllm_model_open(path.c_str(), &options, &model));
    must(mllm_generator_create(model, &generator));
  }
  ~Opened() {
    mllm_generator_close(generator);
    mllm_model_close(model);
  }
  mllm_model* model = nullptr;
  mllm_generator* generator = nullptr;
};

template <class T>
T sized() {
  T out{};
  out.struct_size = sizeof out;
  return out;
}

mllm_sampling_params sampling(float temperature, uint64_t seed) {
  mllm_sampling_params out;
  mllm_sampling_params_init(&out);
  out.temperature = temperature;
  out.seed = seed;
  return out;
}

std::vector<int32_t> tokens_of(const mllm_generation& g) {
  return {g.tokens, g.tokens + g.n_tokens};
}

constexpr char kPrompt[] = "Once upon a time";
constexpr char kTemplate[] = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";

// What the loop must do, written with the parts below it.
std::vector<int32_t> plain_loop(mllm_model* model, const std::vector<int32_t>& prompt,
                                const mllm_sampling_params& params, size_t count) {
  mllm_model_info info;
  must(mllm_model_get_info(model, &info));
  mllm_session* session = nullptr;
  mllm_sampler* sampler = nullptr;
  must(mllm_session_create(model, &session));
  must(mllm_sampler_create(&params, info.vocab_size, &sampler));
  must(mllm_sampler_add_prompt(sampler, prompt.data(), prompt.size()));
  std::vector<int32_t> out;
  mllm_segment segment{0, prompt.data(), static_cast<int32_t>(prompt.size())};
  while (out.size() < count) {
    must(mllm_session_feed(session, &segment, 1));
    const float* logits = nullptr;
    must(mllm_session_logits(session, 0, &logits));
    int32_t token = 0;
    must(mllm_sampler_sample(sampler, logits, nullptr, 0, &token, nullptr));
    out.push_back(token);
    segment = {0, &out.back(), 1};
  }
  mllm_sampler_close(sampler);
  mllm_session_close(session);
  return out;
}

std::vector<int32_t> encoded(const std::string& bundle, const char* text) {
  mllm_tokenizer* tokenizer = nullptr;
  must(mllm_tokenizer_open(bundle.c_str(), &tokenizer));
  const int32_t* ids = nullptr;
  size_t n = 0;
  must(mllm_tokenizer_encode(tokenizer, text, std::strlen(text), MLLM_ENCODE_ADD_SPECIAL, &ids, &n));
  std::vector<int32_t> out(ids, ids + n);
  mllm_tokenizer_close(tokenizer);
  return out;
}

TEST(tokens_are_those_of_a_plain_loop) {
  for (const std::string& bundle : testing::bundles()) {
    Opened opened(bundle);
    const std::vector<int32_t> prompt = encoded(bundle, kPrompt);
    for (const uint64_t seed : {1, 2}) {
      const mllm_sampling_params params = sampling(seed == 1 ? 0.0f : 1.0f, seed);
      auto options = sized<mllm_generate_options>();
      options.sampling = &params;
      options.max_tokens = 20;
      options.ignore_eos = 1;
      auto generation = sized<mllm_generation>();
      must(mllm_generate_text(opened.generator, kPrompt, sizeof kPrompt - 1, &options, &generation));
      CHECK(tokens_of(generation) == plain_loop(opened.model, prompt, params, 20));
      CHECK_EQ(generation.finish_reason, MLLM_FINISH_LENGTH);
      CHECK_EQ(generation.prompt_tokens, static_cast<int32_t>(prompt.size()));
      // All but the last token of a prompt that was seen before are in the cache.
      CHECK_EQ(generation.cached_tokens, seed == 1 ? 0 : generation.prompt_tokens - 1);
    }
  }
}

struct Collected {
  std::string text;
  std::vector<int32_t> tokens;
  size_t stop_after = 0;  // tokens; 0: never
  mllm_generator* cancels = nullptr;
};

int32_t collect(void* user, const mllm_piece* piece) {
  auto* all = static_cast<Collected*>(user);
  all->text.append(piece->text, piece->text_bytes);
  all->tokens.push_back(piece->token);
  if (all->cancels) mllm_generator_cancel(all->cancels);
  return all->tokens.size() == all->stop_after;
}

TEST(pieces_are_the_text_and_reuse_changes_nothing) {
  for (const std::string& bundle : testing::bundles()) {
    Opened opened(bundle);
    const mllm_sampling_params params = sampling(0.8f, 5);
    std::vector<int32_t> first;
    for (int round = 0; round < 3; ++round) {
      Collected all;
      auto options = sized<mllm_generate_options>();
      options.sampling = &params;
      options.no_reuse = round == 2;
      options.on_piece = collect;
      options.user = &all;
      auto generation = sized<mllm_generation>();
      must(mllm_generate_text(opened.generator, kPrompt, sizeof kPrompt - 1, &options, &generation));
      CHECK_EQ(all.text, std::string(generation.text, generation.text_bytes));
      CHECK(all.tokens == tokens_of(generation));
      CHECK_EQ(generation.text[generation.text_bytes], '\0');
      CHECK((generation.cached_tokens == 0) == (round != 1));
      if (round == 0) first = all.tokens;
      CHECK(all.tokens == first);
    }
  }
}

TEST(cancelled_generations_go_on_where_they_were) {
  for (const std::string& bundle : testing::bundles()) {
    Opened opened(bundle);
    const mllm_sampling_params params = sampling(0, 0);
    Collected all;
    auto options = sized<mllm_generate_options>();
    options.sampling = &params;
    options.on_piece = collect;
    options.user = &all;
    auto whole = sized<mllm_generation>();
    must(mllm_generate_text(opened.generator, kPrompt, sizeof kPrompt - 1, &options, &whole));
    const std::vector<int32_t> expected = tokens_of(whole);
    for (const bool by_flag : {false, true}) {
      all = {.text = {},
             .tokens = {},
             .stop_after = by_flag ? 0u : 3u,
             .cancels = by_flag ? opened.generator : nullptr};
      auto part = sized<mllm_generation>();
      must(mllm_generate_text(opened.generator, kPrompt, sizeof kPrompt - 1, &options, &part));
      CHECK_EQ(part.finish_reason, MLLM_FINISH_CANCELLED);
      CHECK_EQ(part.n_tokens, by_flag ? size_t{1} : size_t{3});
      CHECK(std::equal(part.tokens, part.tokens + part.n_tokens, expected.begin()));
    }
    all = {};
    must(mllm_generate_text(opened.generator, kPrompt, sizeof kPrompt - 1, &options, &whole));
    CHECK(tokens_of(whole) == expected);
  }
}

TEST(errors_name_the_option) {
  for (const std::string& bundle : testing::bundles()) {
    Opened opened(bundle);
    const auto fails = [&](const mllm_generate_options& options, const char* message) {
      CHECK_EQ(mllm_generate_text(opened.generator, kPrompt, sizeof kPrompt - 1, &options, nullptr),
               MLLM_ERROR_INVALID_ARGUMENT);
      if (!std::strstr(mllm_last_error(), message)) std::fprintf(stderr, "%s\n", mllm_last_error());
      CHECK(std::strstr(mllm_last_error(), message) != nullptr);
    };
    auto options = sized<mllm_generate_options>();
    options.struct_size = 4;
    fails(options, "struct_size");
    options = sized<mllm_generate_options>();
    options.max_tokens = -1;
    fails(options, "max_tokens is -1");
    options = sized<mllm_generate_options>();
    options.n_stop = 1;
    fails(options, "stop must not be NULL");
    const char* const empty[] = {""};
    options.stop = empty;
    fails(options, "stop has an empty text");
    options = sized<mllm_generate_options>();
    const int32_t outside = 1 << 30;
    options.stop_tokens = &outside;
    options.n_stop_tokens = 1;
    fails(options, "stop_token_ids has 1073741824");
    const std::vector<int32_t> longest(97, 5);
    CHECK_EQ(mllm_generate_tokens(opened.generator, longest.data(), longest.size(), nullptr, nullptr),
             MLLM_ERROR_CAPACITY);
    CHECK_EQ(mllm_generate_tokens(opened.generator, nullptr, 0, nullptr, nullptr),
             MLLM_ERROR_INVALID_ARGUMENT);
    // A program of a later version: unknown fields are fine as long as they are zero.
    struct {
      mllm_generate_options known;
      uint64_t later;
    } newer{};
    newer.known.struct_size = sizeof newer;
    newer.known.max_tokens = 1;
    must(mllm_generate_text(opened.generator, kPrompt, sizeof kPrompt - 1, &newer.known, nullptr));
    newer.later = 1;
    fails(newer.known, "too old");
  }
}

TEST(a_conversation_keeps_its_turns_in_the_cache) {
  for (const std::string& bundle : testing::bundles()) {
    Opened opened(bundle);
    const mllm_sampling_params params = sampling(0, 0);
    auto options = sized<mllm_generate_options>();
    options.sampling = &params;
    options.max_tokens = 5;
    auto chat_options = sized<mllm_chat_options>();
    chat_options.system = "Be kind";
    chat_options.chat_template = kTemplate;
    mllm_chat* chat = nullptr;
    must(mllm_chat_create(opened.generator, &chat_options, &chat));
    auto generation = sized<mllm_generation>();
    must(mllm_chat_ask(chat, "Hello", 5, &options, &generation));
    const std::string first(generation.text, generation.text_bytes);
    const int32_t before = generation.prompt_tokens;
    must(mllm_chat_ask(chat, "Bye", 3, &options, &generation));
    CHECK(generation.cached_tokens >= before - 1);
    const char* json = nullptr;
    size_t bytes = 0;
    must(mllm_chat_messages(chat, &json, &bytes));
    const std::string messages(json, bytes);
    CHECK(messages.find("\"content\": \"Be kind\"") != messages.npos);
    CHECK(messages.find("\"role\": \"assistant\"") != messages.npos);
    // Loaded elsewhere, it is the same conversation.
    mllm_chat* other = nullptr;
    must(mllm_chat_create(opened.generator, &chat_options, &other));
    must(mllm_chat_load(other, messages.data(), messages.size()));
    must(mllm_chat_messages(other, &json, &bytes));
    CHECK_EQ(std::string(json, bytes), messages);
    CHECK_EQ(mllm_chat_load(other, "[{\"role\": 1}]", 13), MLLM_ERROR_FORMAT);
    CHECK_EQ(mllm_chat_load(other, "[", 1), MLLM_ERROR_FORMAT);
    CHECK_EQ(mllm_chat_ask(other, "\xff", 1, &options, nullptr), MLLM_ERROR_INVALID_ARGUMENT);
    must(mllm_chat_messages(other, &json, &bytes));
    CHECK_EQ(std::string(json, bytes), messages);
    must(mllm_chat_reset(other));
    must(mllm_chat_set_system(other, nullptr));
    must(mllm_chat_messages(other, &json, &bytes));
    CHECK_EQ(std::string(json, bytes), std::string("[]"));
    mllm_chat_close(other);
    mllm_chat_close(chat);
  }
}

TEST(what_does_not_fit_is_refused_or_dropped) {
  for (const std::string& bundle : testing::bundles()) {
    Opened opened(bundle);
    const mllm_sampling_params params = sampling(0, 0);
    auto options = sized<mllm_generate_options>();
    options.sampling = &params;
    options.max_tokens = 8;
    options.ignore_eos = 1;
    for (const mllm_context_full policy : {MLLM_CONTEXT_STOP, MLLM_CONTEXT_DROP}) {
      auto chat_options = sized<mllm_chat_options>();
      chat_options.chat_template = kTemplate;
      chat_options.context_full = policy;
      mllm_chat* chat = nullptr;
      must(mllm_chat_create(opened.generator, &chat_options, &chat));
      mllm_status status = MLLM_OK;
      auto generation = sized<mllm_generation>();
      for (int turn = 0; turn < 12 && status == MLLM_OK; ++turn) {
        status = mllm_chat_ask(chat, "Tell me more", 12, &options, &generation);
      }
      if (policy == MLLM_CONTEXT_STOP) {
        CHECK_EQ(status, MLLM_ERROR_CAPACITY);
        CHECK(std::strstr(mllm_last_error(), "the bundle's context holds 96") != nullptr);
      } else {
        CHECK_EQ(status, MLLM_OK);
        CHECK(generation.dropped_messages > 0 && generation.dropped_messages % 2 == 0);
        CHECK_EQ(generation.n_tokens, size_t{8});
      }
      mllm_chat_close(chat);
    }
  }
}

TEST(generators_of_one_model_run_in_several_threads) {
  for (const std::string& bundle : testing::bundles()) {
    Opened opened(bundle, 2);
    const auto text_of = [&](mllm_generator* generator, uint64_t seed) {
      const mllm_sampling_params params = sampling(0.9f, seed);
      auto options = sized<mllm_generate_options>();
      options.sampling = &params;
      options.max_tokens = 12;
      auto generation = sized<mllm_generation>();
      must(mllm_generate_text(generator, kPrompt, sizeof kPrompt - 1, &options, &generation));
      return std::string(generation.text, generation.text_bytes);
    };
    std::vector<std::string> expected(6), found(6);
    for (size_t i = 0; i < expected.size(); ++i) expected[i] = text_of(opened.generator, i);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        mllm_generator* own = nullptr;
        must(mllm_generator_create(opened.model, &own));
        for (size_t i = 2 * t; i < 2 * t + 2; ++i) found[i] = text_of(own, i);
        mllm_generator_close(own);
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(found == expected);
  }
}

TEST(cancel_from_another_thread) {
  for (const std::string& bundle : testing::bundles()) {
    Opened opened(bundle);
    auto options = sized<mllm_generate_options>();
    options.ignore_eos = 1;
    auto generation = sized<mllm_generation>();
    mllm_status status = MLLM_OK;
    std::atomic<bool> has_ended{false};
    // A cancel that comes between two generations ends none of them.
    std::thread thread([&] {
      do {
        status = mllm_generate_text(opened.generator, kPrompt, sizeof kPrompt - 1, &options, &generation);
      } while (status == MLLM_OK && generation.finish_reason != MLLM_FINISH_CANCELLED);
      has_ended = true;
    });
    while (!has_ended) mllm_generator_cancel(opened.generator);
    thread.join();
    CHECK_EQ(status, MLLM_OK);
    must(mllm_generate_text(opened.generator, kPrompt, sizeof kPrompt - 1, nullptr, nullptr));
  }
}

// In a prompt of several chunks, and within a single token: what was half computed leaves no trace.
TEST(cancelled_feeds_move_nothing) {
  for (const std::string& bundle : testing::bundles()) {
    Opened opened(bundle);
    mllm_model_info info;
    must(mllm_model_get_info(opened.model, &info));
    for (const int32_t n : {60, 1}) {
      mllm_session *session = nullptr, *undisturbed = nullptr;
      must(mllm_session_create(opened.model, &session));
      must(mllm_session_create(opened.model, &undisturbed));
      const std::vector<int32_t> before(5, 3), tokens(static_cast<size_t>(n), 7);
      const mllm_segment first{0, before.data(), 5}, segment{0, tokens.data(), n};
      for (mllm_session* one : {session, undisturbed}) must(mllm_session_feed(one, &first, 1));
      mllm_status status = MLLM_OK;
      std::atomic<bool> has_ended{false};
      std::thread feeds([&] {
        while (status == MLLM_OK) {
          must(mllm_session_rewind(session, 0, 5));
          status = mllm_session_feed(session, &segment, 1);
        }
        has_ended = true;
      });
      while (!has_ended) mllm_session_cancel(session);
      feeds.join();
      CHECK_EQ(status, MLLM_ERROR_CANCELLED);
      int32_t position = -1;
      must(mllm_session_position(session, 0, &position));
      CHECK_EQ(position, 5);
      std::vector<float> logits[2];
      for (mllm_session* one : {session, undisturbed}) {
        const float* values = nullptr;
        must(mllm_session_feed(one, &segment, 1));
        must(mllm_session_logits(one, 0, &values));
        logits[one == undisturbed].assign(values, values + info.vocab_size);
      }
      CHECK(logits[0] == logits[1]);
      mllm_session_close(session);
      mllm_session_close(undisturbed);
    }
  }
}

TEST(closing_a_session_ends_its_feed) {
  for (const std::string& bundle : testing::bundles()) {
    Opened opened(bundle);
    const std::vector<int32_t> tokens(90, 7);
    const mllm_segment segment{0, tokens.data(), 90};
    int ended = 0;
    // A feed may be over before it is seen to run: then another one is begun.
    for (int attempt = 0; attempt < 500 && ended < 3; ++attempt) {
      mllm_session* session = nullptr;
      must(mllm_session_create(opened.model, &session));
      mllm_status status = MLLM_ERROR_BUSY;
      std::atomic<bool> has_ended{false};
      std::thread feeds([&] {
        // Where the question below was first. Once that is answered with BUSY there is no second call.
        while (status == MLLM_ERROR_BUSY) status = mllm_session_feed(session, &segment, 1);
        has_ended = true;
      });
      int32_t position = 0;
      while (!has_ended && mllm_session_position(session, 0, &position) != MLLM_ERROR_BUSY)
        std::this_thread::yield();
      mllm_session_close(session);
      feeds.join();
      CHECK(status == MLLM_ERROR_CANCELLED || status == MLLM_OK);
      ended += status == MLLM_ERROR_CANCELLED;
    }
    CHECK_EQ(ended, 3);
  }
}

// A generation in a thread of its own, which waits inside of its callback until it may go on.
struct HeldGeneration {
  std::atomic<bool> begun{false}, may_go_on{false};
  mllm_status status = MLLM_OK;
  mllm_finish_reason reason = MLLM_FINISH_STOP;

  void stop_at_first_piece(mllm_generate_options& options) {
    options.user = this;
    options.on_piece = [](void* user, const mllm_piece*) -> int32_t {
      auto* self = static_cast<HeldGeneration*>(user);
      self->begun = true;
      self->begun.notify_all();
      self->may_go_on.wait(false);
      return 0;
    };
  }
  void go_on() {
    may_go_on = true;
    may_go_on.notify_all();
  }
};

TEST(closing_ends_a_running_call) {
  for (const std::string& bundle : testing::bundles()) {
    mllm_model* model = nullptr;
    mllm_generator* generator = nullptr;
    must(mllm_model_open(bundle.c_str(), nullptr, &model));
    must(mllm_generator_create(model, &generator));
    mllm_model_close(model);  // its memory goes with the generator
    // The thread makes one call only: after the close there is no handle to call with.
    HeldGeneration running;
    std::thread thread([&] {
      auto options = sized<mllm_generate_options>();
      options.ignore_eos = 1;
      running.stop_at_first_piece(options);
      auto generation = sized<mllm_generation>();
      running.status = mllm_generate_text(generator, kPrompt, sizeof kPrompt - 1, &options, &generation);
    });
    running.begun.wait(false);
    CHECK_EQ(mllm_generate_text(generator, kPrompt, sizeof kPrompt - 1, nullptr, nullptr), MLLM_ERROR_BUSY);
    std::thread closes([&] { mllm_generator_close(generator); });
    running.go_on();
    closes.join();
    thread.join();
    // Ended by the close, or just before it.
    CHECK(running.status == MLLM_ERROR_CANCELLED || running.status == MLLM_OK);
  }
}

// The conversation or its generator, each while another thread is inside of an answer; and an answer that is
// cancelled.
TEST(closing_ends_a_running_answer) {
  for (const std::string& bundle : testing::bundles()) {
    Opened opened(bundle);
    enum { CloseChat, CloseGenerator, Cancel };
    for (const int end : {CloseChat, CloseGenerator, Cancel}) {
      mllm_generator* generator = nullptr;
      mllm_chat* chat = nullptr;
      auto chat_options = sized<mllm_chat_options>();
      chat_options.chat_template = kTemplate;
      must(mllm_generator_create(opened.model, &generator));
      must(mllm_chat_create(generator, &chat_options, &chat));
      HeldGeneration running;
      std::thread thread([&] {
        const mllm_sampling_params params = sampling(0, 0);
        auto options = sized<mllm_generate_options>();
        options.sampling = &params;
        options.ignore_eos = 1;
        running.stop_at_first_piece(options);
        auto generation = sized<mllm_generation>();
        running.status = mllm_chat_ask(chat, "Hello", 5, &options, &generation);
        running.reason = generation.finish_reason;
      });
      running.begun.wait(false);
      CHECK_EQ(mllm_chat_ask(chat, "Hello", 5, nullptr, nullptr), MLLM_ERROR_BUSY);
      CHECK_EQ(mllm_generate_text(generator, kPrompt, sizeof kPrompt - 1, nullptr, nullptr), MLLM_ERROR_BUSY);
      std::thread ends([&] {
        if (end == CloseChat) mllm_chat_close(chat);
        if (end == CloseGenerator) mllm_generator_close(generator);
        if (end == Cancel) mllm_generator_cancel(generator);
      });
      if (end == Cancel) ends.join();  // a cancel does not wait for what it ends
      running.go_on();
      if (ends.joinable()) ends.join();
      thread.join();
      if (end == Cancel) {
        CHECK_EQ(running.status, MLLM_OK);
        CHECK_EQ(running.reason, MLLM_FINISH_CANCELLED);
      } else {
        // Ended by the close, or just before it.
        CHECK(running.status == MLLM_ERROR_CANCELLED || running.status == MLLM_OK);
      }
      if (end == CloseGenerator) {
        // A conversation whose generator is gone says so, and can still be closed.
        CHECK_EQ(mllm_chat_ask(chat, "Hello", 5, nullptr, nullptr), MLLM_ERROR_CANCELLED);
      } else {
        must(mllm_generate_text(generator, kPrompt, sizeof kPrompt - 1, nullptr, nullptr));
        mllm_generator_close(generator);
      }
      if (end != CloseChat) mllm_chat_close(chat);
    }
  }
}

TEST(a_callback_may_close_and_may_not_generate) {
  for (const std::string& bundle : testing::bundles()) {
    Opened opened(bundle);
    struct State {
      mllm_generator* generator;
      mllm_status inner = MLLM_OK;
    } state{nullptr};
    must(mllm_generator_create(opened.model, &state.generator));
    auto options = sized<mllm_generate_options>();
    options.user = &state;
    options.on_piece = [](void* user, const mllm_piece*) -> int32_t {
      auto* self = static_cast<State*>(user);
      if (!self->generator) return 0;
      self->inner = mllm_generate_text(self->generator, kPrompt, sizeof kPrompt - 1, nullptr, nullptr);
      mllm_generator_close(self->generator);
      self->generator = nullptr;
      return 0;
    };
    CHECK_EQ(mllm_generate_text(state.generator, kPrompt, sizeof kPrompt - 1, &options, nullptr),
             MLLM_ERROR_CANCELLED);
    CHECK_EQ(state.inner, MLLM_ERROR_BUSY);
  }
}

struct Account {
  std::atomic<size_t> held[3] = {}, asked[3] = {};
};

TEST(large_blocks_come_from_the_programs_allocator) {
  Account account;
  auto hooks = sized<mllm_allocator>();
  hooks.user = &account;
  hooks.allocate = [](void* user, mllm_memory_kind kind, size_t bytes, size_t alignment) -> void* {
    static_cast<Account*>(user)->held[kind] += bytes;
    static_cast<Account*>(user)->asked[kind] += bytes;
    void* const memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    std::memset(memory, 0xa5, bytes);  // need not be zeroed
    return memory;
  };
  hooks.release = [](void* user, mllm_memory_kind kind, void* memory, size_t bytes) {
    static_cast<Account*>(user)->held[kind] -= bytes;
    std::free(memory);
  };
  for (const std::string& bundle : testing::bundles()) {
    const auto text_of = [&] {
      Opened opened(bundle);
      mllm_model_info info;
      must(mllm_model_get_info(opened.model, &info));
      const mllm_sampling_params params = sampling(0, 0);
      auto options = sized<mllm_generate_options>();
      options.sampling = &params;
      auto generation = sized<mllm_generation>();
      must(mllm_generate_text(opened.generator, kPrompt, sizeof kPrompt - 1, &options, &generation));
      return std::pair(std::string(generation.text, generation.text_bytes), info);
    };
    const auto [expected, info] = text_of();
    for (auto& one : account.asked) one = 0;
    must(mllm_set_allocator(&hooks));
    const auto [found, unused] = text_of();
    must(mllm_set_allocator(nullptr));
    CHECK_EQ(found, expected);
    CHECK(account.asked[MLLM_MEMORY_WEIGHTS] > 0 && account.asked[MLLM_MEMORY_ACTIVATIONS] > 0);
    CHECK(account.asked[MLLM_MEMORY_CACHE] >= info.kv_cache_bytes);
    for (const auto& one : account.held) CHECK_EQ(one.load(), size_t{0});
    hooks.allocate = [](void*, mllm_memory_kind, size_t, size_t) -> void* { return nullptr; };
    must(mllm_set_allocator(&hooks));
    mllm_model* model = nullptr;
    CHECK_EQ(mllm_model_open(bundle.c_str(), nullptr, &model), MLLM_ERROR_OUT_OF_MEMORY);
    must(mllm_set_allocator(nullptr));
    break;  // one bundle tells
  }
  hooks.allocate = nullptr;
  CHECK_EQ(mllm_set_allocator(&hooks), MLLM_ERROR_INVALID_ARGUMENT);
}

TEST(messages_go_to_the_program) {
  std::string seen;
  mllm_set_log(
      [](void* user, mllm_log_level level, const char* message) {
        *static_cast<std::string*>(user) += std::to_string(level) + message + "\n";
      },
      &seen);
  for (const std::string& bundle : testing::bundles()) {
    seen.clear();
    Opened opened(bundle, 1);
    CHECK(seen.starts_with("0" + bundle + ": ") && seen.find("1 threads") != seen.npos);
    CHECK_EQ(std::count(seen.begin(), seen.end(), '\n'), std::ptrdiff_t{1});
  }
  mllm_set_log(nullptr, nullptr);
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
