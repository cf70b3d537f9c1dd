// Two texts at once from one model: generate BUNDLE PROMPT. Each thread has a generator, the weights are
// shared.
#include <mindir_llm.h>

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

namespace {

void check(mllm_status status) {
  if (status != MLLM_OK) throw std::runtime_error(mllm_last_error());
}

using Model = std::unique_ptr<mllm_model, decltype(&mllm_model_close)>;
using Generator = std::unique_ptr<mllm_generator, decltype(&mllm_generator_close)>;

std::string generate(mllm_model* model, const std::string& prompt, uint64_t seed) {
  mllm_generator* raw = nullptr;
  check(mllm_generator_create(model, &raw));
  const Generator generator(raw, mllm_generator_close);
  mllm_sampling_params sampling;
  mllm_sampling_params_init(&sampling);
  sampling.top_p = 0.9F;
  sampling.seed = seed;
  const char* const stop[] = {"The end"};
  mllm_generate_options options{};
  options.struct_size = sizeof options;
  options.max_tokens = 40;
  options.sampling = &sampling;
  options.stop = stop;
  options.n_stop = 1;
  mllm_generation result{};
  result.struct_size = sizeof result;
  check(mllm_generate_text(raw, prompt.data(), prompt.size(), &options, &result));
  return {result.text, result.text_bytes};
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) {
    std::fprintf(stderr, "usage: generate BUNDLE PROMPT\n");
    return 2;
  }
  mllm_model* raw = nullptr;
  if (mllm_model_open(words[1], nullptr, &raw) != MLLM_OK) {
    std::fprintf(stderr, "%s\n", mllm_last_error());
    return 1;
  }
  const Model model(raw, mllm_model_close);
  std::string texts[2];
  std::thread threads[2];
  for (int i = 0; i < 2; ++i) {
    threads[i] = std::thread([&, i] {
      try {
        texts[i] = generate(model.get(), words[2], static_cast<uint64_t>(i) + 1);
      } catch (const std::exception& error) {
        texts[i] = std::string("failed: ") + error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& text : texts) std::printf("%s%s\n", words[2], text.c_str());
  return 0;
}
