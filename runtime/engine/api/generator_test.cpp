// Generators and chats through the C interface, over the bundles that MINDIR_LLM_TEST_BUNDLES names: the loop
// against a plain one over session and sampler, prefix reuse, cancelling, closing, several threads.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/testing.h"
#include "include/mindir_llm.h"

namespace mllm {
namespace {

std::vector<std::string> bundles() {
  std::vector<std::string> out;
  const char* names = std::getenv("MINDIR_LLM_TEST_BUNDLES");
  std::istringstream list(names ? names : "");
  for (std::string name; std::getline(list, name, ':');) out.push_back(name);
  if (out.empty()) std::printf("skipped: MINDIR_LLM_TEST_BUNDLES is not set\n");
  return out;
}

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
  for (const std::string& bundle : bundles()) {
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
  for (const std::string& bundle : bundles()) {
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
  for (const std::string& bundle : bundles()) {
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
  for (const std::string& bundle : bundles()) {
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
  for (const std::string& bundle : bundles()) {
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
  for (const std::string& bundle : bundles()) {
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

}  // namespace
}  // namespace mllm

TEST_MAIN()
