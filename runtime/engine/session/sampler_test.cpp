#include "session/sampler.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/testing.h"

using mllm::Sampler;
using mllm::SamplingParams;

namespace {

std::vector<float> log_of(std::vector<double> p) {
  std::vector<float> out;
  for (const double v : p) out.push_back(static_cast<float>(std::log(v)));
  return out;
}

// Frequencies of 40,000 independent draws: one sampler would count its own tokens, so only without penalties.
std::vector<double> frequencies(const SamplingParams& params, const std::vector<float>& logits) {
  Sampler sampler(params, static_cast<int32_t>(logits.size()));
  std::vector<double> f(logits.size());
  constexpr int kDraws = 40000;
  for (int i = 0; i < kDraws; ++i) f[static_cast<size_t>(sampler.sample(logits, {}).token)] += 1.0 / kDraws;
  return f;
}

// Five standard deviations of a binomial frequency over 40,000 draws are at most 5 * 0.5 / 200.
constexpr double kTolerance = 0.0125;

void check_frequencies(const SamplingParams& params, const std::vector<float>& logits,
                       const std::vector<double>& expected) {
  const std::vector<double> f = frequencies(params, logits);
  for (size_t i = 0; i < f.size(); ++i) {
    CHECK_NEAR(f[i], expected[i], kTolerance);
    if (expected[i] == 0) CHECK_EQ(f[i], 0.0);
  }
}

}  // namespace

TEST(greedy_takes_the_lowest_of_equal_maxima) {
  Sampler s({.temperature = 0}, 5);
  CHECK_EQ(s.sample(std::vector<float>{1, 3, 2, 3, 3}, {}).token, 1);
  const std::vector<int32_t> banned = {1};
  CHECK_EQ(s.sample(std::vector<float>{1, 3, 2, 3, 3}, banned).token, 3);
}

TEST(draws_follow_the_softmax) {
  check_frequencies({}, log_of({0.5, 0.2, 0.2, 0.1}), {0.5, 0.2, 0.2, 0.1});
  // Temperature 0.5 squares the probabilities: .25 .04 .04 .01 of .34.
  check_frequencies({.temperature = 0.5f}, log_of({0.5, 0.2, 0.2, 0.1}),
                    {.25 / .34, .04 / .34, .04 / .34, .01 / .34});
}

TEST(filters_keep_the_right_tokens) {
  const auto logits = log_of({0.1, 0.5, 0.15, 0.25});
  check_frequencies({.top_k = 2}, logits, {0, 0.5 / 0.75, 0, 0.25 / 0.75});
  check_frequencies({.top_k = 1}, logits, {0, 1, 0, 0});
  check_frequencies({.top_p = 0.7f}, logits, {0, 0.5 / 0.75, 0, 0.25 / 0.75});
  check_frequencies({.top_p = 0.01f}, logits, {0, 1, 0, 0});
  check_frequencies({.min_p = 0.29f}, logits, {0, 0.5 / 0.9, 0.15 / 0.9, 0.25 / 0.9});
  check_frequencies({.top_k = 3, .top_p = 0.8f}, logits, {0, 0.5 / 0.75, 0, 0.25 / 0.75});
}

TEST(same_seed_same_tokens) {
  const auto logits = log_of({0.25, 0.25, 0.25, 0.25});
  const auto run = [&](uint64_t seed) {
    Sampler s({.seed = seed}, 4);
    std::vector<int32_t> tokens;
    for (int i = 0; i < 64; ++i) tokens.push_back(s.sample(logits, {}).token);
    return tokens;
  };
  CHECK(run(7) == run(7));
  CHECK(run(7) != run(8));
}

// The first outputs for SplitMix64 seed 0, computed from the published definitions.
TEST(random_bits_are_the_published_generator) {
  mllm::RandomBits r(0);
  CHECK_EQ(r.next(), uint64_t{0x99ec5f36cb75f2b4});
  CHECK_EQ(r.next(), uint64_t{0xbf6e1f784956452a});
}

TEST(penalties_follow_their_formulas) {
  // Token 0 was in the prompt, token 1 gets generated; greedy shows which adjusted logit is largest.
  Sampler s({.temperature = 0, .repetition_penalty = 2}, 3);
  const std::vector<int32_t> prompt = {0};
  s.add_prompt(prompt);
  CHECK_EQ(s.sample(std::vector<float>{4.0f, 2.5f, 1.0f}, {}).token, 1);     // 4/2 < 2.5
  CHECK_EQ(s.sample(std::vector<float>{-1.0f, -1.0f, -1.5f}, {}).token, 2);  // -1*2 < -1.5
  Sampler p({.temperature = 0, .presence_penalty = 1, .frequency_penalty = 0.5f}, 2);
  p.add_prompt(prompt);  // the prompt does not count here
  CHECK_EQ(p.sample(std::vector<float>{1, 0}, {}).token, 0);
  CHECK_EQ(p.sample(std::vector<float>{1.4f, 0}, {}).token, 1);  // 1.4 - 1 - 0.5 < 0
  CHECK_EQ(p.sample(std::vector<float>{1.6f, 1.6f}, {}).token, 0);
  CHECK_EQ(p.sample(std::vector<float>{2.1f, 1.5f}, {}).token, 0);  // 2.1 - 1 - 1 > 1.5 - 1 - 0.5
}

TEST(logprobs_are_of_the_raw_logits) {
  Sampler s({.temperature = 0, .repetition_penalty = 3}, 3);
  const auto logits = log_of({0.2, 0.7, 0.1});
  CHECK_NEAR(s.sample(logits, {}).logprob, std::log(0.7), 1e-6);
  std::vector<int32_t> tokens(3);
  std::vector<float> logprobs(3);
  mllm::top_logprobs(std::vector<float>{1, 2, 2}, tokens, logprobs);
  CHECK((tokens == std::vector<int32_t>{1, 2, 0}));
  CHECK_NEAR(logprobs[0], 2 - std::log(std::exp(1) + 2 * std::exp(2)), 1e-6);
}

TEST(refuses_bad_numbers) {
  CHECK_THROWS(Sampler({.temperature = -1}, 4), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_THROWS(Sampler({.temperature = NAN}, 4), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_THROWS(Sampler({.top_p = 0}, 4), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_THROWS(Sampler({.min_p = 1.5f}, 4), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_THROWS(Sampler({.repetition_penalty = 0}, 4), MLLM_ERROR_INVALID_ARGUMENT);
  Sampler s({}, 2);
  CHECK_THROWS(s.sample(std::vector<float>{NAN, 0}, {}), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_THROWS(s.sample(std::vector<float>{0, 0}, std::vector<int32_t>{0, 1}), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_THROWS(s.add_prompt(std::vector<int32_t>{2}), MLLM_ERROR_INVALID_ARGUMENT);
}

TEST_MAIN()
