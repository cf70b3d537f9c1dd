// The C interface of structured output.
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/errors.h"
#include "api/handles.h"
#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/matcher.h"

using mllm::api::guard;
using mllm::api::require;

struct mllm_matcher {
  mllm::grammar::Matcher matcher;
};

namespace {

mllm::grammar::Grammar parse(mllm_grammar_kind kind, std::string_view source) {
  switch (kind) {
    case MLLM_GRAMMAR_GBNF:
      return mllm::grammar::parse_gbnf(source);
    case MLLM_GRAMMAR_JSON_SCHEMA:
      return mllm::grammar::parse_json_schema(source);
    case MLLM_GRAMMAR_JSON_OBJECT:
      return mllm::grammar::json_object();
  }
  mllm::fail_argument("kind is " + std::to_string(kind) + ", which is no mllm_grammar_kind");
}

}  // namespace

extern "C" {

mllm_status mllm_grammar_compile(mllm_tokenizer* tokenizer, mllm_grammar_kind kind, const char* source,
                                 size_t size, mllm_grammar** grammar) {
  return guard([&] {
    require(grammar, "grammar");
    *grammar = nullptr;
    require(tokenizer, "tokenizer");
    if (size) require(source, "source");
    const mllm::grammar::Grammar parsed = parse(kind, {source, size});
    if (!tokenizer->vocabulary)
      tokenizer->vocabulary = std::make_shared<mllm::grammar::Vocabulary>(*tokenizer->tokenizer);
    *grammar =
        new mllm_grammar{std::make_shared<mllm::grammar::CompiledGrammar>(parsed, tokenizer->vocabulary)};
  });
}

void mllm_grammar_close(mllm_grammar* grammar) {
  delete grammar;
}

mllm_status mllm_matcher_create(const mllm_grammar* grammar, const int32_t* end_tokens, size_t n_end_tokens,
                                mllm_matcher** matcher) {
  return guard([&] {
    require(matcher, "matcher");
    *matcher = nullptr;
    require(grammar, "grammar");
    std::vector<int32_t> ends = grammar->grammar->vocabulary().end_tokens();
    if (end_tokens) ends.assign(end_tokens, end_tokens + n_end_tokens);
    *matcher = new mllm_matcher{mllm::grammar::Matcher(grammar->grammar, std::move(ends))};
  });
}

mllm_status mllm_matcher_copy(const mllm_matcher* matcher, mllm_matcher** copy) {
  return guard([&] {
    require(copy, "copy");
    *copy = nullptr;
    require(matcher, "matcher");
    *copy = new mllm_matcher{mllm::grammar::Matcher(matcher->matcher)};
  });
}

void mllm_matcher_close(mllm_matcher* matcher) {
  delete matcher;
}

mllm_status mllm_matcher_mask(mllm_matcher* matcher, const uint32_t** mask, size_t* n_words) {
  return guard([&] {
    require(matcher, "matcher");
    require(mask, "mask");
    require(n_words, "n_words");
    const std::span<const uint32_t> words = matcher->matcher.mask();
    *mask = words.data();
    *n_words = words.size();
  });
}

mllm_status mllm_matcher_accept(mllm_matcher* matcher, int32_t token) {
  return guard([&] {
    require(matcher, "matcher");
    matcher->matcher.accept(token);
  });
}

mllm_status mllm_matcher_accept_text(mllm_matcher* matcher, const char* text, size_t size, size_t* accepted) {
  return guard([&] {
    require(matcher, "matcher");
    if (size) require(text, "text");
    require(accepted, "accepted");
    *accepted = matcher->matcher.accept_text({text, size});
  });
}

mllm_status mllm_matcher_progress(const mllm_matcher* matcher, int32_t* can_end, int32_t* must_end) {
  return guard([&] {
    require(matcher, "matcher");
    require(can_end, "can_end");
    require(must_end, "must_end");
    *can_end = matcher->matcher.can_end() ? 1 : 0;
    *must_end = matcher->matcher.must_end() ? 1 : 0;
  });
}

mllm_status mllm_sampler_sample_matching(mllm_sampler* sampler, mllm_matcher* matcher, const float* logits,
                                         const int32_t* banned, size_t n_banned, int32_t* token,
                                         float* logprob) {
  return guard([&] {
    require(sampler, "sampler");
    require(matcher, "matcher");
    require(logits, "logits");
    require(token, "token");
    if (n_banned) require(banned, "banned");
    const std::span<const uint32_t> allowed = matcher->matcher.mask();
    const mllm::Sample s = sampler->sampler.sample({logits, static_cast<size_t>(sampler->vocab_size)},
                                                   {banned, n_banned}, &allowed);
    matcher->matcher.accept(s.token);
    *token = s.token;
    if (logprob) *logprob = s.logprob;
  });
}
}
