#include "session/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "base/error.h"

namespace mllm {
namespace {

constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();

uint64_t split_mix(uint64_t& state) {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

uint64_t rotate_left(uint64_t v, int by) {
  return v << by | v >> (64 - by);
}

void require_range(const char* name, double value, bool ok, const char* range) {
  if (!ok) fail_argument(std::string(name) + " must be " + range + ", got " + std::to_string(value));
}

}  // namespace

RandomBits::RandomBits(uint64_t seed) {
  for (uint64_t& s : state_) s = split_mix(seed);
}

uint64_t RandomBits::next() {
  const uint64_t result = rotate_left(state_[1] * 5, 7) * 9;
  const uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = rotate_left(state_[3], 45);
  return result;
}

double RandomBits::uniform() {
  return static_cast<double>(next() >> 11) * 0x1p-53;
}

Sampler::Sampler(const SamplingParams& p, int32_t vocab_size) : params_(p), random_(p.seed) {
  require_range("temperature", p.temperature, p.temperature >= 0 && std::isfinite(p.temperature),
                "0 or more");
  require_range("top_p", p.top_p, p.top_p > 0 && p.top_p <= 1, "above 0 and at most 1");
  require_range("min_p", p.min_p, p.min_p >= 0 && p.min_p <= 1, "0 to 1");
  require_range("repetition_penalty", p.repetition_penalty,
                p.repetition_penalty > 0 && std::isfinite(p.repetition_penalty), "above 0");
  require_range("presence_penalty", p.presence_penalty, std::isfinite(p.presence_penalty), "finite");
  require_range("frequency_penalty", p.frequency_penalty, std::isfinite(p.frequency_penalty), "finite");
  require_range("vocab_size", vocab_size, vocab_size > 0, "above 0");
  in_prompt_.resize(static_cast<size_t>(vocab_size));
  generated_.resize(static_cast<size_t>(vocab_size));
  adjusted_.resize(static_cast<size_t>(vocab_size));
}

void Sampler::check_token(int32_t token) const {
  if (token < 0 || static_cast<size_t>(token) >= generated_.size()) {
    fail_argument("token id " + std::to_string(token) + " is outside the vocabulary of " +
                  std::to_string(generated_.size()));
  }
}

void Sampler::add_prompt(std::span<const int32_t> tokens) {
  for (const int32_t t : tokens) check_token(t);
  for (const int32_t t : tokens) in_prompt_[static_cast<size_t>(t)] = 1;
}

void Sampler::apply_penalties(std::span<const float> logits, std::span<const int32_t> banned) {
  for (size_t i = 0; i < logits.size(); ++i) {
    float logit = logits[i];
    if (std::isnan(logit) || logit == std::numeric_limits<float>::infinity()) {
      fail_argument("the logit of token " + std::to_string(i) + " is " +
                    (std::isnan(logit) ? "NaN" : "infinite") + ": the model or its weights are broken");
    }
    const int32_t count = generated_[i];
    if (count > 0 || in_prompt_[i]) {
      logit = logit > 0 ? logit / params_.repetition_penalty : logit * params_.repetition_penalty;
    }
    if (count > 0) logit -= params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count);
    adjusted_[i] = logit;
  }
  for (const int32_t t : banned) {
    check_token(t);
    adjusted_[static_cast<size_t>(t)] = kNegativeInfinity;
  }
}

void Sampler::apply_mask(std::span<const uint32_t> allowed) {
  const size_t n = adjusted_.size();
  for (size_t begin = 0; begin < n; begin += 32) {
    const uint32_t word = begin / 32 < allowed.size() ? allowed[begin / 32] : 0;
    if (word == 0xffffffff) continue;
    const size_t end = std::min(begin + 32, n);
    if (word == 0) {
      std::fill(adjusted_.begin() + static_cast<std::ptrdiff_t>(begin),
                adjusted_.begin() + static_cast<std::ptrdiff_t>(end), kNegativeInfinity);
      continue;
    }
    for (size_t i = begin; i < end; ++i) {
      if (!(word >> (i - begin) & 1)) adjusted_[i] = kNegativeInfinity;
    }
  }
}

int32_t Sampler::greedy() const {
  // max_element returns the first of equal maxima.
  return static_cast<int32_t>(std::max_element(adjusted_.begin(), adjusted_.end()) - adjusted_.begin());
}

int32_t Sampler::draw() {
  const float top = *std::max_element(adjusted_.begin(), adjusted_.end());
  // exp((l - top) / t) >= min_p  <=>  l >= top + t log(min_p): drop by logit, before anything is
  // exponentiated.
  const double floor_logit = params_.min_p > 0
                                 ? top + params_.temperature * std::log(static_cast<double>(params_.min_p))
                                 : -INFINITY;
  candidates_.clear();
  for (size_t i = 0; i < adjusted_.size(); ++i) {
    if (adjusted_[i] != kNegativeInfinity && adjusted_[i] >= floor_logit) {
      candidates_.push_back({adjusted_[i], static_cast<int32_t>(i)});
    }
  }
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  if (params_.top_k > 0 && static_cast<size_t>(params_.top_k) < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + params_.top_k, candidates_.end(), before);
    candidates_.resize(static_cast<size_t>(params_.top_k));
  }
  // Sorted so that the draw depends on the values alone, not on how the selection above arranged them.
  if (params_.top_p < 1 || params_.top_k > 0) std::sort(candidates_.begin(), candidates_.end(), before);
  const auto weight = [&](const Candidate& c) {
    return std::exp((static_cast<double>(c.logit) - top) / params_.temperature);
  };
  double total = 0;
  for (const Candidate& c : candidates_) total += weight(c);
  if (params_.top_p < 1) {
    // The smallest set of most probable tokens that holds at least top_p of the mass.
    const double wanted = params_.top_p * total;
    double mass = 0;
    size_t kept = 0;
    while (kept < candidates_.size() && mass < wanted) mass += weight(candidates_[kept++]);
    candidates_.resize(std::max<size_t>(kept, 1));
    total = 0;
    for (const Candidate& c : candidates_) total += weight(c);
  }
  double remaining = random_.uniform() * total;
  for (const Candidate& c : candidates_) {
    remaining -= weight(c);
    if (remaining < 0) return c.token;
  }
  return candidates_.back().token;  // rounding left a sliver past the last one
}

Sample Sampler::sample(std::span<const float> logits, std::span<const int32_t> banned,
                       const std::span<const uint32_t>* allowed) {
  apply_penalties(logits, banned);
  if (allowed) apply_mask(*allowed);
  if (adjusted_[static_cast<size_t>(greedy())] == kNegativeInfinity)
    fail_argument(allowed ? "every token that the grammar allows is banned" : "every token is banned");
  // A temperature so small that dividing by it overflows is greedy in all but name.
  const int32_t token = params_.temperature < 1e-5f ? greedy() : draw();
  ++generated_[static_cast<size_t>(token)];
  return {token,
          static_cast<float>(static_cast<double>(logits[static_cast<size_t>(token)]) - log_sum_exp(logits))};
}

double log_sum_exp(std::span<const float> logits) {
  const float top = *std::max_element(logits.begin(), logits.end());
  if (top == kNegativeInfinity) return -INFINITY;
  double sum = 0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l) - top);
  return top + std::log(sum);
}

void top_logprobs(std::span<const float> logits, std::span<int32_t> tokens, std::span<float> logprobs) {
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) {
    if (std::isnan(logits[i]))
      fail_argument("the logit of token " + std::to_string(i) +
                    " is NaN: the model or its weights are broken");
    order[i] = static_cast<int32_t>(i);
  }
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(tokens.size()), order.end(),
                    [&](int32_t a, int32_t b) {
                      const float x = logits[static_cast<size_t>(a)];
                      const float y = logits[static_cast<size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  const double norm = log_sum_exp(logits);
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = order[i];
    logprobs[i] = static_cast<float>(static_cast<double>(logits[static_cast<size_t>(order[i])]) - norm);
  }
}

}  // namespace mllm
