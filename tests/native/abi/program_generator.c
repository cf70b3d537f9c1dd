/* A program as it was written before models had a cap on memory: generator, grammar, conversation and hooks. Prints what
 * the Python runtime would say, then a JSON object. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "previous_generator.h"

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, mllm_last_error());
  return 1;
}

static int32_t print_piece(void* user, const mllm_piece* piece) {
  if (piece->logits == NULL || piece->logprob > 0) return 1;
  fwrite(piece->text, 1, piece->text_bytes, stdout);
  ++*(int*)user;
  return 0;
}

static void count_line(void* user, mllm_log_level level, const char* message) {
  (void)level;
  (void)message;
  ++*(int*)user;
}

static size_t held = 0;

static void* allocate(void* user, mllm_memory_kind kind, size_t bytes, size_t alignment) {
  void* memory = NULL;
  (void)user;
  (void)kind;
  held += bytes;
  return posix_memalign(&memory, alignment, bytes) ? NULL : memory;
}

static void give_back(void* user, mllm_memory_kind kind, void* memory, size_t bytes) {
  (void)user;
  (void)kind;
  held -= bytes;
  free(memory);
}

int main(int count, char** words) {
  mllm_allocator allocator = {sizeof allocator, allocate, give_back, NULL};
  mllm_model_options model_options = {sizeof model_options, 1, 1, 0};
  mllm_sampling_params params;
  mllm_generate_options options;
  mllm_chat_options chat_options;
  mllm_generation generation;
  mllm_model* model = NULL;
  mllm_generator* generator = NULL;
  mllm_tokenizer* tokenizer = NULL;
  mllm_grammar* grammar = NULL;
  mllm_chat* chat = NULL;
  const char* const stop[] = {"never written"};
  const char* const rule = "root ::= \"{\\\"a\\\": 1}\"";
  const char* json = NULL;
  size_t bytes = 0;
  int pieces = 0, lines = 0;
  if (count != 3) return 2;
  if (mllm_abi_version() != MLLM_ABI_VERSION) return failed("abi");
  mllm_set_log(count_line, &lines);
  if (mllm_set_allocator(&allocator)) return failed("allocator");
  if (mllm_model_open(words[1], &model_options, &model)) return failed("open");
  if (lines < 1 || held == 0) return failed("hooks");
  if (mllm_generator_create(model, &generator)) return failed("generator");
  mllm_sampling_params_init(&params);
  params.top_k = 20;
  params.seed = 11;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.max_tokens = 20;
  options.ignore_eos = 1;
  options.sampling = &params;
  options.stop = stop;
  options.n_stop = 1;
  options.on_piece = print_piece;
  options.user = &pieces;
  memset(&generation, 0, sizeof generation);
  generation.struct_size = sizeof generation;
  if (mllm_generate_text(generator, words[2], strlen(words[2]), &options, &generation)) return failed("text");
  if (pieces != 20 || generation.n_tokens != 20) return failed("pieces");
  if (generation.finish_reason != MLLM_FINISH_LENGTH) return failed("reason");
  if (generation.stop_token != -1 || generation.stop_index != -1 || generation.is_full) return failed("stops");
  printf("\n");

  if (mllm_tokenizer_open(words[1], &tokenizer)) return failed("tokenizer");
  if (mllm_grammar_compile(tokenizer, MLLM_GRAMMAR_GBNF, rule, strlen(rule), &grammar))
    return failed("grammar");
  mllm_tokenizer_close(tokenizer);
  memset(&chat_options, 0, sizeof chat_options);
  chat_options.struct_size = sizeof chat_options;
  chat_options.chat_template = "{% for m in messages %}{{ m.content }}\n{% endfor %}";
  if (mllm_chat_create(generator, &chat_options, &chat)) return failed("chat");
  options.grammar = grammar;
  options.on_piece = NULL;
  if (mllm_chat_ask(chat, "Hello", 5, &options, &generation)) return failed("ask");
  printf("%s\n", generation.text);
  if (mllm_chat_messages(chat, &json, &bytes) || !strstr(json, "assistant")) return failed("messages");
  mllm_chat_close(chat);
  mllm_grammar_close(grammar);
  mllm_generator_close(generator);
  mllm_model_close(model);
  return held == 0 ? 0 : 3;
}
