// Choosing the next token from logits. One implementation for every front end.
#ifndef MINDIR_LLM_SESSION_SAMPLER_H_
#define MINDIR_LLM_SESSION_SAMPLER_H_

#include <cstdint>
#include <span>
#include <vector>

namespace mllm {

struct SamplingParams {
  float temperature = 1;         // 0: greedy
  int32_t top_k = 0;             // <= 0: all
  float top_p = 1;               // nucleus sampling, Holtzman et al. 2020
  float min_p = 0;               // Nguyen et al. 2024
  float repetition_penalty = 1;  // Keskar et al. 2019 (CTRL)
  float presence_penalty = 0;
  float frequency_penalty = 0;
  uint64_t seed = 0;
};

// xoshiro256** (Blackman and Vigna, 2018), seeded through SplitMix64. Integers only, so the same seed draws
// the same numbers on every machine.
class RandomBits {
 public:
  explicit RandomBits(uint64_t seed);
  uint64_t next();
  double uniform();  // [0, 1), 53 bits

 private:
  uint64_t state_[4];
};

struct Sample {
  int32_t token = 0;
  float logprob = 0;  // log softmax of the raw logits
};

// The order is vLLM's: penalties and bans on the logits, then greedy choice, or temperature, min_p, top_k,
// top_p and a draw. At least the most probable token always survives.
class Sampler {
 public:
  Sampler(const SamplingParams& params,
          int32_t vocab_size);  // throws INVALID_ARGUMENT naming value and range

  void add_prompt(std::span<const int32_t> tokens);
  // allowed: a bit for each token (bit id % 32 of word id / 32) that may be drawn; ids behind it may not.
  // Null: all may. Throws INVALID_ARGUMENT when no token is left or a logit is NaN or +infinity.
  Sample sample(std::span<const float> logits, std::span<const int32_t> banned,
                const std::span<const uint32_t>* allowed = nullptr);

 private:
  struct Candidate {
    float logit;
    int32_t token;
  };

  void check_token(int32_t token) const;
  void apply_penalties(std::span<const float> logits, std::span<const int32_t> banned);
  void apply_mask(std::span<const uint32_t> allowed);
  int32_t greedy() const;
  int32_t draw();

  SamplingParams params_;
  RandomBits random_;
  std::vector<uint8_t> in_prompt_;  // by token
  std::vector<int32_t> generated_;  // occurrences by token
  std::vector<float> adjusted_;     // logits after penalties
  std::vector<Candidate> candidates_;
};

// log sum exp of finite-or--infinity logits.
double log_sum_exp(std::span<const float> logits);

// The n most probable tokens, most probable first, the lower id first among equals.
void top_logprobs(std::span<const float> logits, std::span<int32_t> tokens, std::span<float> logprobs);

}  // namespace mllm

#endif  // MINDIR_LLM_SESSION_SAMPLER_H_
