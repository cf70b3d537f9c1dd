/* A program as it was written before the token loop was part of the library: tokenizer, session, sampler,
 * template and graph by hand. Prints what the Python runtime would say. */
#include <stdio.h>
#include <string.h>

#include "previous.h"

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, mllm_last_error());
  return 1;
}

int main(int count, char** words) {
  /* The first version's options ended here. */
  struct {
    uint32_t struct_size;
    int32_t threads;
    int32_t verify_weights;
  } first_options = {sizeof first_options, 1, 1};
  mllm_model* model = NULL;
  mllm_model_info info;
  mllm_session* session = NULL;
  mllm_tokenizer* tokenizer = NULL;
  mllm_decoder* decoder = NULL;
  mllm_sampling_params params;
  mllm_sampler* sampler = NULL;
  mllm_segment segment;
  mllm_template_options options = {sizeof options, 0};
  mllm_template* chat_template = NULL;
  mllm_graph* graph = NULL;
  mllm_tensor tensor;
  const int32_t* ids = NULL;
  const char* text = NULL;
  size_t n = 0;
  int step;
  if (count != 4) return 2;
  if (mllm_abi_version() != MLLM_ABI_VERSION) return failed("abi");
  if (mllm_model_open(words[1], (const mllm_model_options*)&first_options, &model)) return failed("open");
  if (mllm_model_get_info(model, &info) || info.batch_size != 1 || info.threads != 1) return failed("info");
  if (mllm_tokenizer_open(words[1], &tokenizer)) return failed("tokenizer");
  if (mllm_tokenizer_encode(tokenizer, words[2], strlen(words[2]), MLLM_ENCODE_ADD_SPECIAL, &ids, &n))
    return failed("encode");
  if (mllm_session_create(model, &session)) return failed("session");
  mllm_sampling_params_init(&params);
  if (params.struct_size != sizeof params) return failed("params");
  params.top_k = 20;
  params.seed = 11;
  if (mllm_sampler_create(&params, info.vocab_size, &sampler)) return failed("sampler");
  if (mllm_sampler_add_prompt(sampler, ids, n)) return failed("prompt");
  if (mllm_decoder_create(tokenizer, 1, &decoder)) return failed("decoder");
  for (step = 0; step < (int)n; ++step) {
    if (mllm_decoder_push(decoder, ids[step], &text, &(size_t){0})) return failed("push");
  }
  segment.slot = 0;
  segment.tokens = ids;
  segment.n_tokens = (int32_t)n;
  for (step = 0; step < 20; ++step) {
    const float* logits = NULL;
    static int32_t token;
    if (mllm_session_feed(session, &segment, 1)) return failed("feed");
    if (mllm_session_logits(session, 0, &logits)) return failed("logits");
    if (mllm_sampler_sample(sampler, logits, NULL, 0, &token, NULL)) return failed("sample");
    if (mllm_decoder_push(decoder, token, &text, &n)) return failed("push");
    fwrite(text, 1, n, stdout);
    segment.tokens = &token;
    segment.n_tokens = 1;
  }
  printf("\n");
  if (mllm_template_open("{{ strftime_now('%Y') }}", 24, &chat_template)) return failed("template");
  if (mllm_template_render(chat_template, "{}", &options, &text, &n) || strcmp(text, "1970"))
    return failed("render");
  if (mllm_graph_open(words[3], 1, &graph)) return failed("graph");
  if (mllm_graph_input(graph, 0, &tensor) || strcmp(tensor.name, "input_ids")) return failed("input");
  if (tensor.dtype != MLLM_DTYPE_INT32 || tensor.rank != 2) return failed("tensor");
  mllm_graph_close(graph);
  mllm_template_close(chat_template);
  mllm_decoder_close(decoder);
  mllm_sampler_close(sampler);
  mllm_session_close(session);
  mllm_tokenizer_close(tokenizer);
  mllm_model_close(model);
  return 0;
}
