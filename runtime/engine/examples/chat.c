/* A chat in the terminal: chat BUNDLE [TEMPLATE-FILE]. Ctrl-C stops an answer, Ctrl-D leaves. */
#include <mindir_llm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mllm_generator* generator = NULL;

static void on_interrupt(int number) {
  (void)number;
  mllm_generator_cancel(generator); /* may be called by a signal handler */
}

static int32_t print_piece(void* user, const mllm_piece* piece) {
  (void)user;
  fwrite(piece->text, 1, piece->text_bytes, stdout);
  fflush(stdout);
  return 0;
}

static void check(mllm_status status) {
  if (status == MLLM_OK) return;
  fprintf(stderr, "error %d: %s\n", (int)status, mllm_last_error());
  exit(1);
}

static char* read_file(const char* path) {
  FILE* file = fopen(path, "rb");
  char* text = calloc(1, 1 << 20);
  if (!file || !text || fread(text, 1, (1 << 20) - 1, file) == 0) {
    perror(path);
    exit(1);
  }
  fclose(file);
  return text;
}

int main(int count, char** words) {
  mllm_model* model = NULL;
  mllm_chat* chat = NULL;
  char line[4096];
  char* template_text = count > 2 ? read_file(words[2]) : NULL;
  mllm_sampling_params sampling;
  mllm_chat_options chat_options = {0};
  mllm_generate_options options = {0};
  mllm_generation answer = {0};
  if (count < 2) {
    fprintf(stderr, "usage: chat BUNDLE [TEMPLATE-FILE]\n");
    return 2;
  }
  check(mllm_model_open(words[1], NULL, &model));
  check(mllm_generator_create(model, &generator));
  signal(SIGINT, on_interrupt);

  chat_options.struct_size = sizeof chat_options;
  chat_options.context_full = MLLM_CONTEXT_DROP;
  chat_options.system = "Answer in one sentence.";
  chat_options.chat_template = template_text;
  check(mllm_chat_create(generator, &chat_options, &chat));

  mllm_sampling_params_init(&sampling);
  sampling.temperature = 0;
  options.struct_size = sizeof options;
  options.max_tokens = 64;
  options.sampling = &sampling;
  options.on_piece = print_piece;
  answer.struct_size = sizeof answer;
  while (printf("> "), fflush(stdout), fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = '\0';
    check(mllm_chat_ask(chat, line, strlen(line), &options, &answer));
    printf("\n(%zu tokens; %d of the prompt's %d were still in the cache)\n", answer.n_tokens,
           (int)answer.cached_tokens, (int)answer.prompt_tokens);
  }
  mllm_chat_close(chat);
  mllm_generator_close(generator);
  mllm_model_close(model);
  free(template_text);
  return 0;
}
