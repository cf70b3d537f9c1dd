/* The public header is C99 and links from C. */
#include <stdio.h>
#include <string.h>

#include "include/mindir_llm.h"

int main(void) {
  mllm_graph* graph = NULL;
  mllm_tokenizer* tokenizer = NULL;
  mllm_grammar* grammar = NULL;
  mllm_matcher* matcher = NULL;
  mllm_decoder* decoder = NULL;
  mllm_template* chat_template = NULL;
  const char* text = NULL;
  size_t size = 0;
  mllm_sampling_params params;
  mllm_sampling_params_init(&params);
  if (mllm_abi_version() != MLLM_ABI_VERSION) return 1;
  if (params.struct_size != sizeof params) return 2;
  if (mllm_graph_open("/nonexistent/graph.mindir", 1, &graph) != MLLM_ERROR_IO || graph) return 3;
  if (!strstr(mllm_last_error(), "graph.mindir")) return 4;
  if (mllm_graph_open(NULL, 1, &graph) != MLLM_ERROR_INVALID_ARGUMENT) return 5;
  if (mllm_tokenizer_open("/nonexistent/tokenizer.model", &tokenizer) != MLLM_ERROR_IO || tokenizer) return 6;
  if (mllm_decoder_create(NULL, 1, &decoder) != MLLM_ERROR_INVALID_ARGUMENT || decoder) return 7;
  mllm_tokenizer_close(NULL);
  mllm_decoder_close(NULL);
  if (mllm_template_open("{{ x }}!", 8, &chat_template) != MLLM_OK) return 8;
  if (mllm_template_render(chat_template, "{\"x\": \"hi\"}", NULL, &text, &size) != MLLM_OK) return 9;
  if (size != 3 || strcmp(text, "hi!") != 0) return 10;
  if (mllm_template_render(chat_template, "[]", NULL, &text, &size) != MLLM_ERROR_FORMAT) return 11;
  mllm_template_close(chat_template);
  if (mllm_template_open("{% if %}", 8, &chat_template) != MLLM_ERROR_FORMAT || chat_template) return 12;
  if (!strstr(mllm_last_error(), "line 1")) return 13;
  mllm_template_close(NULL);
  mllm_graph_close(NULL);
  mllm_model_close(NULL);
  if (mllm_session_restore(NULL, 0, "x", 1) != MLLM_ERROR_INVALID_ARGUMENT) return 14;
  mllm_session_close(NULL);
  mllm_sampler_close(NULL);
  if (mllm_grammar_compile(NULL, MLLM_GRAMMAR_JSON_OBJECT, NULL, 0, &grammar) != MLLM_ERROR_INVALID_ARGUMENT ||
      grammar)
    return 20;
  if (mllm_matcher_create(NULL, NULL, 0, &matcher) != MLLM_ERROR_INVALID_ARGUMENT || matcher) return 21;
  mllm_grammar_close(NULL);
  mllm_matcher_close(NULL);
  printf("1 passed, 0 failed\n");
  return 0;
}
