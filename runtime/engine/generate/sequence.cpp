#include "generate/sequence.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "text/unicode.h"
#include "text/utf8.h"

namespace mllm {
namespace {

void check_prompt(const Bundle& bundle, std::span<const int32_t> prompt) {
  const Model& model = bundle.model();
  const Manifest& m = model.manifest();
  if (prompt.empty()) fail_argument("the prompt has no tokens; give at least one");
  for (const int32_t id : prompt) {
    if (id < 0 || id >= m.vocab_size) {
      fail_argument("the prompt: token id " + std::to_string(id) + " is outside the vocabulary [0, " +
                    std::to_string(m.vocab_size) + ")");
    }
  }
  if (prompt.size() < static_cast<size_t>(m.max_seq_len)) return;
  throw Error(MLLM_ERROR_CAPACITY, "the prompt has " + std::to_string(prompt.size()) + " tokens; " +
                                       model.context_text() + ", so a prompt may have at most " +
                                       std::to_string(m.max_seq_len - 1) + ": shorten it, or " +
                                       model.longer_context());
}

void check_options(const Bundle& bundle, const StopAndSampling& o) {
  const int32_t vocabulary = bundle.model().manifest().vocab_size;
  const auto check_id = [&](const char* name, int32_t id) {
    if (id >= 0 && id < vocabulary) return;
    fail_argument(std::string(name) + " has " + std::to_string(id) + ", outside the vocabulary [0, " +
                  std::to_string(vocabulary) + ")");
  };
  if (o.max_tokens < 0)
    fail_argument("max_tokens is " + std::to_string(o.max_tokens) + ", expected 0 or more");
  if (o.min_tokens < 0)
    fail_argument("min_tokens is " + std::to_string(o.min_tokens) + ", expected 0 or more");
  if (o.max_tokens > 0 && o.min_tokens > o.max_tokens) {
    fail_argument("min_tokens is " + std::to_string(o.min_tokens) + ", above max_tokens (" +
                  std::to_string(o.max_tokens) + ")");
  }
  for (const int32_t id : o.stop_tokens) check_id("stop_token_ids", id);
  for (const auto& [id, bias] : o.logit_bias) {
    check_id("logit_bias", id);
    if (!std::isfinite(bias)) fail_argument("logit_bias of token " + std::to_string(id) + " is not finite");
  }
  for (const auto* list : {&o.stop, &o.bad_words}) {
    const char* name = list == &o.stop ? "stop" : "bad_words";
    for (const std::string& one : *list) {
      if (one.empty()) fail_argument(std::string(name) + " has an empty text");
    }
  }
}

std::string_view without_leading_spaces(std::string_view text) {
  while (!text.empty()) {
    const text::Utf8Char c = text::first_char(text);
    if (!text::is_space(c.code)) break;
    text.remove_prefix(c.size);
  }
  return text;
}

// Token ids of each word, at the beginning of a word and within one.
std::vector<std::vector<int32_t>> spellings(Bundle& bundle, const std::vector<std::string>& words) {
  std::vector<std::vector<int32_t>> found;
  for (const std::string& word : words) {
    for (const std::string& text : {word, " " + std::string(without_leading_spaces(word))}) {
      std::vector<int32_t> ids = bundle.encode(text, {.add_special = false}, "bad_words need");
      if (!ids.empty() && std::ranges::find(found, ids) == found.end()) found.push_back(std::move(ids));
    }
  }
  return found;
}

}  // namespace

Sequence::Sequence(Bundle& bundle, std::span<const int32_t> prompt, const StopAndSampling& options)
    : options_((check_prompt(bundle, prompt), check_options(bundle, options), options)),
      room_(static_cast<size_t>(bundle.model().manifest().max_seq_len) - prompt.size()),
      limit_(options.max_tokens > 0 ? std::min(room_, static_cast<size_t>(options.max_tokens)) : room_),
      sampler_(options.sampling, bundle.model().manifest().vocab_size),
      stops_(options.stop) {
  const int32_t vocabulary = bundle.model().manifest().vocab_size;
  const text::Tokenizer* tokenizer = bundle.tokenizer();
  if (!tokenizer && !options.stop.empty())
    fail_argument(bundle.path() + ": stop strings need a tokenizer, and the bundle has none");
  bad_words_ = spellings(bundle, options.bad_words);
  if (tokenizer) {
    if (!options.ignore_eos) eos_ = tokenizer->special_ids().stop;
    for (int32_t id = tokenizer->vocab_size(); id < vocabulary; ++id) never_.push_back(id);
    decoder_.emplace(*tokenizer, true);
    // The continuation's first blank, or a character begun in the prompt, depends on the prompt. What follows
    // a grammar begins anew.
    std::string ignored;
    if (!options.grammar) {
      for (const int32_t id : prompt) decoder_->push(id, ignored);
    }
  }
  if (options.grammar) {
    if (!tokenizer)
      fail_argument(bundle.path() + ": structured output needs a tokenizer, and the bundle has none");
    std::vector<int32_t> ends = eos_;
    ends.insert(ends.end(), options.stop_tokens.begin(), options.stop_tokens.end());
    matcher_.emplace(options.grammar, std::move(ends));
  }
  std::set<int32_t> early(never_.begin(), never_.end());
  for (const std::vector<int32_t>* ids : {&std::as_const(eos_), &options.stop_tokens}) {
    for (const int32_t id : *ids) {
      if (id < vocabulary) early.insert(id);
    }
  }
  too_early_.assign(early.begin(), early.end());
  sampler_.add_prompt(prompt);
}

bool Sequence::is_among(const std::vector<int32_t>& ids, int32_t token) const {
  return std::ranges::find(ids, token) != ids.end();
}

bool Sequence::is_full() const {
  return finish_reason_ == FinishReason::Length && tokens_.size() >= room_;
}

std::string Sequence::advance(std::span<const float> logits) {
  const int32_t token = choose(logits);
  tokens_.push_back(token);
  const bool is_stop = is_among(options_.stop_tokens, token);
  if (is_stop || is_among(eos_, token)) {
    if (is_stop) stop_token_ = token;
    return finish(FinishReason::Stop, "");
  }
  std::string piece;
  if (decoder_) decoder_->push(token, piece);
  std::string delta = stops_.push(piece, tokens_.size() > static_cast<size_t>(options_.min_tokens));
  if (stops_.found()) return finish(FinishReason::Stop, std::move(delta));
  if (matcher_ && matcher_->must_end()) return finish(FinishReason::Stop, std::move(delta));
  if (tokens_.size() == limit_) return finish(FinishReason::Length, std::move(delta));
  text_ += delta;
  return delta;
}

int32_t Sequence::choose(std::span<const float> logits) {
  banned_ = tokens_.size() < static_cast<size_t>(options_.min_tokens) ? too_early_ : never_;
  ban_bad_endings();
  if (options_.logit_bias.empty()) {
    const Sample chosen = sample(logits);
    logprob_ = chosen.logprob;
    return chosen.token;
  }
  biased_.assign(logits.begin(), logits.end());
  for (const auto& [id, bias] : options_.logit_bias) biased_[static_cast<size_t>(id)] += bias;
  const int32_t token = sample(biased_).token;
  // Reported are the raw logits, as everywhere.
  logprob_ =
      static_cast<float>(static_cast<double>(logits[static_cast<size_t>(token)]) - log_sum_exp(logits));
  return token;
}

Sample Sequence::sample(std::span<const float> logits) {
  if (!matcher_) return sampler_.sample(logits, banned_);
  const std::span<const uint32_t> allowed = matcher_->mask();
  const Sample chosen = sampler_.sample(logits, banned_, &allowed);
  matcher_->accept(chosen.token);
  return chosen;
}

// Ids that would complete a bad word now.
void Sequence::ban_bad_endings() {
  for (const std::vector<int32_t>& ids : bad_words_) {
    const size_t before = ids.size() - 1;
    if (before > tokens_.size()) continue;
    if (std::equal(ids.begin(), ids.end() - 1, tokens_.end() - static_cast<std::ptrdiff_t>(before)))
      banned_.push_back(ids.back());
  }
}

std::string Sequence::finish(FinishReason reason, std::string delta) {
  finish_reason_ = reason;
  if (!stops_.found()) {
    std::string tail;
    if (decoder_) decoder_->flush(tail);
    delta += stops_.push(tail, false);
    delta += stops_.flush();
  }
  text_ += delta;
  return delta;
}

}  // namespace mllm
