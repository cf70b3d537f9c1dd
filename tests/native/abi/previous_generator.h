/* The interface as it was when models had no cap on memory yet. Frozen: a program compiled against it must run with every
 * later library of ABI version 1. */
/* mindir-llm: the C interface of the engine. Every front end (Python, the command line, embedding programs)
 * uses this header and nothing else. It is plain C99.
 *
 * Conventions
 * - Functions that can fail return mllm_status; on failure mllm_last_error() gives one line for the calling
 * thread.
 * - Handles are opaque. A handle may be used by one thread at a time; different sessions and generators of
 * one model may be used by different threads at the same time. Where a session, generator or chat is in use
 * already, a second call is MLLM_ERROR_BUSY.
 * - Pointers handed out stay valid until the next call on the same handle, or until it is closed.
 * - Close functions accept NULL. A model may be closed before its sessions and generators: its memory goes
 * with the last of them. Closing a session, generator or chat while another thread is inside a call on it
 * ends that call, which returns MLLM_ERROR_CANCELLED, and waits for it.
 * - Structures that begin with struct_size are filled with zeros but for that field: zero is the default
 * (only mllm_sampling_params has an init function instead). A library that is newer than the program knows by
 * the size which fields there are.
 */
#ifndef MINDIR_LLM_H_
#define MINDIR_LLM_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define MLLM_API __declspec(dllexport)
#else
#define MLLM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define MLLM_ABI_VERSION 1

typedef enum mllm_status {
  MLLM_OK = 0,
  MLLM_ERROR_INVALID_ARGUMENT = 1, /* the caller's fault: wrong name, shape, dtype, range */
  MLLM_ERROR_IO = 2,               /* a file is missing or cannot be read */
  MLLM_ERROR_FORMAT = 3,           /* a file is corrupt, truncated or of an unknown version */
  MLLM_ERROR_UNSUPPORTED = 4,      /* a valid graph that uses a primitive or form that the engine lacks */
  MLLM_ERROR_OUT_OF_MEMORY = 5,
  MLLM_ERROR_CAPACITY = 6, /* the KV cache is full: prompt plus generated tokens exceed max_seq_len */
  MLLM_ERROR_INTERNAL = 7, /* a bug in the engine */
  MLLM_ERROR_BUSY = 8, /* the handle is in use: by another thread, or by the call this one was made from */
  MLLM_ERROR_CANCELLED = 9 /* the call was cancelled, or its handle closed, from another thread */
} mllm_status;

typedef enum mllm_dtype {
  MLLM_DTYPE_BOOL = 0,
  MLLM_DTYPE_INT8 = 1,
  MLLM_DTYPE_UINT8 = 2,
  MLLM_DTYPE_INT16 = 3,
  MLLM_DTYPE_INT32 = 4,
  MLLM_DTYPE_INT64 = 5,
  MLLM_DTYPE_FLOAT16 = 6,
  MLLM_DTYPE_BFLOAT16 = 7,
  MLLM_DTYPE_FLOAT32 = 8,
  MLLM_DTYPE_FLOAT64 = 9,
  MLLM_DTYPE_QINT4X2 = 10, /* two signed 4-bit values a byte, low nibble first */
  MLLM_DTYPE_UINT16 = 11,
  MLLM_DTYPE_UINT32 = 12,
  MLLM_DTYPE_UINT64 = 13
} mllm_dtype;

MLLM_API uint32_t mllm_abi_version(void);   /* MLLM_ABI_VERSION the library was built with */
MLLM_API const char* mllm_version(void);    /* "0.1.0" */
MLLM_API const char* mllm_last_error(void); /* "" when the calling thread has seen no error */

/* ---- What the embedding program provides
 * --------------------------------------------------------------------------- */

typedef enum mllm_log_level {
  MLLM_LOG_INFO = 0,   /* what was opened, and how it runs */
  MLLM_LOG_WARNING = 1 /* it works, but not as it could */
} mllm_log_level;

/* One line without its end. May be called by any thread that is inside the library. */
typedef void (*mllm_log_callback)(void* user, mllm_log_level level, const char* message);
/* Where messages go; NULL, as in the beginning: nowhere. The library itself never prints. */
MLLM_API void mllm_set_log(mllm_log_callback callback, void* user);

typedef enum mllm_memory_kind {
  MLLM_MEMORY_WEIGHTS = 0,    /* packed weights, for as long as the model is open */
  MLLM_MEMORY_CACHE = 1,      /* the KV caches of a session or generator */
  MLLM_MEMORY_ACTIVATIONS = 2 /* intermediate values of a session, generator or graph */
} mllm_memory_kind;

/* bytes at a multiple of alignment, a power of two; NULL: there is no more. */
typedef void* (*mllm_allocate_callback)(void* user, mllm_memory_kind kind, size_t bytes, size_t alignment);
typedef void (*mllm_release_callback)(void* user, mllm_memory_kind kind, void* memory, size_t bytes);

typedef struct mllm_allocator {
  uint32_t struct_size; /* sizeof(mllm_allocator) */
  mllm_allocate_callback allocate;
  mllm_release_callback release;
  void* user;
} mllm_allocator;

/* Where the large blocks come from that are opened after this call; NULL: from the system again, in huge
 * pages where it grants them. Blocks go back to the allocator that they came from. Small objects use malloc.
 */
MLLM_API mllm_status mllm_set_allocator(const mllm_allocator* allocator);

/* ---- Graph: any MindIR of supported primitives
 * ------------------------------------------------------------- */

typedef struct mllm_graph mllm_graph;

/* A dense row-major tensor. dims are -1 where unknown (in mllm_graph_input of a dynamic graph). */
typedef struct mllm_tensor {
  const char* name;
  mllm_dtype dtype;
  int32_t rank;
  const int64_t* dims;
  void* data; /* not written by mllm_graph_run for inputs */
  size_t nbytes;
} mllm_tensor;

/* threads <= 0: one per physical core. */
MLLM_API mllm_status mllm_graph_open(const char* path, int32_t threads, mllm_graph** graph);
MLLM_API void mllm_graph_close(mllm_graph* graph);
MLLM_API size_t mllm_graph_input_count(const mllm_graph* graph);
MLLM_API size_t mllm_graph_output_count(const mllm_graph* graph);
/* Fill name, dtype, rank, dims; data is NULL. Output dims may be -1 before the first run. */
MLLM_API mllm_status mllm_graph_input(const mllm_graph* graph, size_t index, mllm_tensor* info);
MLLM_API mllm_status mllm_graph_output(const mllm_graph* graph, size_t index, mllm_tensor* info);
/* inputs: input_count tensors in graph order. outputs: output_count structs, filled with views of memory
 * owned by the graph, valid until the next run or close. Inputs are never modified, also where the graph
 * writes to them in place. */
MLLM_API mllm_status mllm_graph_run(mllm_graph* graph, const mllm_tensor* inputs, size_t n_inputs,
                                    mllm_tensor* outputs, size_t n_outputs);
/* JSON:
 * {"inputs","outputs":[{name,dtype,dims}],"operators":{primitive:count},"parameters":[{name,dtype,dims,nbytes}],
 * "plan":{operator:count after fusion},"arena_bytes":n}. Owned by the graph. */
MLLM_API mllm_status mllm_graph_describe(mllm_graph* graph, const char** json);

/* ---- Model: a bundle
 * ---------------------------------------------------------------------------------------- */

typedef struct mllm_model mllm_model;

typedef struct mllm_model_options {
  uint32_t struct_size;   /* sizeof(mllm_model_options) */
  int32_t threads;        /* <= 0: one per physical core */
  int32_t verify_weights; /* non-zero: check the sha256 of the weight files too (graphs are always checked) */
  int32_t exact;          /* non-zero: activations stay float32 in products with quantized weights; otherwise
                             they are rounded to int8 in groups of at most 128, which is faster */
} mllm_model_options;

typedef struct mllm_model_info {
  int32_t batch_size;
  int32_t max_seq_len;
  int32_t prefill_chunk;
  int32_t vocab_size;
  int32_t num_layers;
  int32_t threads;
  int32_t fused; /* non-zero: every operator of both graphs runs as a fused engine operator */
  size_t weight_bytes;
  size_t kv_cache_bytes; /* of one session */
} mllm_model_info;

/* options may be NULL. path is the bundle directory. */
MLLM_API mllm_status mllm_model_open(const char* path, const mllm_model_options* options, mllm_model** model);
MLLM_API void mllm_model_close(mllm_model* model);
MLLM_API mllm_status mllm_model_get_info(const mllm_model* model, mllm_model_info* info);
/* The bundle's manifest.json, verbatim. */
MLLM_API const char* mllm_model_manifest(const mllm_model* model);

/* ---- Session: KV caches and positions of batch_size slots
 * --------------------------------------------------- */

typedef struct mllm_session mllm_session;

typedef struct mllm_segment {
  int32_t slot; /* 0 … batch_size-1, each at most once a call */
  const int32_t* tokens;
  int32_t n_tokens; /* >= 1 */
} mllm_segment;

MLLM_API mllm_status mllm_session_create(mllm_model* model, mllm_session** session);
MLLM_API void mllm_session_close(mllm_session* session);
/* Append tokens to the slots' contexts and compute the logits that follow each slot's last token. Prompts
 * longer than the prefill chunk run in chunks. On error no slot's position moves. */
MLLM_API mllm_status mllm_session_feed(mllm_session* session, const mllm_segment* segments,
                                       size_t n_segments);
/* End the feed that another thread is inside of, within a layer's time: it returns MLLM_ERROR_CANCELLED and
 * no position moves. Does nothing where there is none. May be called by any thread, and by a signal handler.
 */
MLLM_API void mllm_session_cancel(mllm_session* session);
MLLM_API mllm_status mllm_session_position(const mllm_session* session, int32_t slot, int32_t* position);
/* Forget every token of the slot from `position` on (0 empties it); its logits become unavailable. */
MLLM_API mllm_status mllm_session_rewind(mllm_session* session, int32_t slot, int32_t position);
/* float32 [vocab_size] after the slot's last token. */
MLLM_API mllm_status mllm_session_logits(const mllm_session* session, int32_t slot, const float** logits);

/* What the slot holds, as bytes to keep in a file: a prompt is computed once and gone on with later, in
 * another process too. Owned by the session, valid until its next save or close. The bytes hold no token ids.
 */
MLLM_API mllm_status mllm_session_save(mllm_session* session, int32_t slot, const void** data, size_t* size);
/* Put saved bytes into a slot of a session of the same bundle; its logits are unavailable until it is fed.
 * MLLM_ERROR_FORMAT, and nothing changes, where they are damaged or another bundle's. */
MLLM_API mllm_status mllm_session_restore(mllm_session* session, int32_t slot, const void* data, size_t size);

/* Switch the measuring of operators on (from zero) or off. */
MLLM_API mllm_status mllm_session_set_profiling(mllm_session* session, int32_t on);
/* JSON: {"prefill": [{"operator", "name", "calls", "seconds"}], "decode": […]}, in the order of execution.
 * Owned by the session, valid until the next call. */
MLLM_API mllm_status mllm_session_profile(mllm_session* session, const char** json);

/* ---- Chat templates: the Jinja of tokenizer_config.json, rendered as Hugging Face does
 * --------------------------- */

typedef struct mllm_template mllm_template;

typedef struct mllm_template_options {
  uint32_t struct_size; /* sizeof(mllm_template_options) */
  int64_t local_time;   /* what strftime_now writes: seconds since 1970-01-01 00:00 on the local clock */
} mllm_template_options;

/* source: UTF-8, size bytes. MLLM_ERROR_FORMAT where it is malformed, MLLM_ERROR_UNSUPPORTED for a part of
 * Jinja that is not known here, both with the line. */
MLLM_API mllm_status mllm_template_open(const char* source, size_t size, mllm_template** chat_template);
MLLM_API void mllm_template_close(mllm_template* chat_template);
/* variables: a JSON object of what the template reads: messages, tools, add_generation_prompt, bos_token …
 * Text of *size bytes, which may contain NUL and has one more behind it; owned by the template, valid until
 * the next call. options may be NULL: then strftime_now reads the machine's clock.
 * MLLM_ERROR_INVALID_ARGUMENT with the line where the template complains about the messages, or fails, or
 * takes too long. */
MLLM_API mllm_status mllm_template_render(mllm_template* chat_template, const char* variables,
                                          const mllm_template_options* options, const char** text,
                                          size_t* size);

/* ---- The machine
 * ----------------------------------------------------------------------------------------------- */

typedef struct mllm_machine_speed {
  double read_bandwidth; /* bytes per second from memory, all threads together */
  double int8_macs;      /* int8 multiply-accumulates per second of the vector units */
  double matrix_macs;    /* of the matrix unit; 0 where there is none */
} mllm_machine_speed;

/* Measure what the machine can do at best, in about a second. threads <= 0: one per physical core. */
MLLM_API mllm_status mllm_measure_machine(int32_t threads, mllm_machine_speed* speed);

/* ---- Sampler
 * ------------------------------------------------------------------------------------------------- */

typedef struct mllm_sampler mllm_sampler;

typedef struct mllm_sampling_params {
  uint32_t struct_size;     /* sizeof(mllm_sampling_params) */
  float temperature;        /* >= 0; 0 is greedy: exact argmax, the lowest id wins ties */
  int32_t top_k;            /* keep the k most probable tokens; <= 0: all */
  float top_p;              /* (0, 1]; nucleus sampling, Holtzman et al. 2020 */
  float min_p;              /* [0, 1]; drop tokens below min_p times the top probability */
  float repetition_penalty; /* > 0, 1: off; divides positive and multiplies negative logits of seen tokens
                               (CTRL) */
  float presence_penalty;   /* subtracted once from tokens generated so far */
  float frequency_penalty;  /* subtracted per occurrence among tokens generated so far */
  uint64_t seed;
} mllm_sampling_params;

/* Fill with the defaults: temperature 1, all filters off, seed 0. */
MLLM_API void mllm_sampling_params_init(mllm_sampling_params* params);
MLLM_API mllm_status mllm_sampler_create(const mllm_sampling_params* params, int32_t vocab_size,
                                         mllm_sampler** sampler);
MLLM_API void mllm_sampler_close(mllm_sampler* sampler);
/* Tell the sampler about prompt tokens (they count for the repetition penalty only). */
MLLM_API mllm_status mllm_sampler_add_prompt(mllm_sampler* sampler, const int32_t* tokens, size_t n_tokens);
/* Draw a token from logits [vocab_size] and record it as generated. banned: ids that must not be drawn (may
 * be NULL). logprob, when not NULL, receives log softmax(logits)[token] of the raw logits (no penalty, no
 * temperature). */
MLLM_API mllm_status mllm_sampler_sample(mllm_sampler* sampler, const float* logits, const int32_t* banned,
                                         size_t n_banned, int32_t* token, float* logprob);
/* The n most probable tokens of raw logits [vocab_size], most probable first (ties: lowest id), with log
 * softmax. */
MLLM_API mllm_status mllm_top_logprobs(const float* logits, int32_t vocab_size, int32_t n, int32_t* tokens,
                                       float* logprobs);

/* ---- Tokenizer: text to token ids and back
 * ------------------------------------------------------------------------ */

typedef struct mllm_tokenizer mllm_tokenizer;

typedef struct mllm_tokenizer_info {
  int32_t vocab_size;    /* ids are below it */
  int32_t bos_token_id;  /* -1: there is none */
  int32_t eos_token_id;  /* -1: there is none */
  int32_t add_bos_token; /* non-zero: encoding with MLLM_ENCODE_ADD_SPECIAL puts it first */
  int32_t add_eos_token; /* … puts it last */
} mllm_tokenizer_info;

typedef enum mllm_token_kind {
  MLLM_TOKEN_TEXT = 0,
  MLLM_TOKEN_BYTE = 1,   /* byte fallback: one byte of a character */
  MLLM_TOKEN_SPECIAL = 2 /* a marker such as <s>, not text */
} mllm_token_kind;

/* One entry of the vocabulary. piece is its spelling in the tokenizer's file, text what it adds to a text
 * (not always whole characters); neither ends with a NUL. */
typedef struct mllm_token {
  mllm_token_kind kind;
  const char* piece;
  size_t piece_bytes;
  const char* text;
  size_t text_bytes;
} mllm_token;

typedef enum mllm_encode_flags {
  MLLM_ENCODE_ADD_SPECIAL = 1,  /* put the begin and end token where the model wants them */
  MLLM_ENCODE_PARSE_SPECIAL = 2 /* the spelling of a special token means that token; leave it out for text
                                   that is not trusted */
} mllm_encode_flags;

/* path: a bundle, a checkpoint's folder, or a file: tokenizer.json, or a tokenizer.model of SentencePiece or
 * of tiktoken ranks. */
MLLM_API mllm_status mllm_tokenizer_open(const char* path, mllm_tokenizer** tokenizer);
MLLM_API void mllm_tokenizer_close(mllm_tokenizer* tokenizer);
MLLM_API mllm_status mllm_tokenizer_get_info(const mllm_tokenizer* tokenizer, mllm_tokenizer_info* info);
/* Ids that end a generation. */
MLLM_API mllm_status mllm_tokenizer_stop_tokens(const mllm_tokenizer* tokenizer, const int32_t** ids,
                                                size_t* n_ids);
/* Bytes of the text that are no UTF-8 count as U+FFFD. flags: mllm_encode_flags, added up. */
MLLM_API mllm_status mllm_tokenizer_encode(mllm_tokenizer* tokenizer, const char* text, size_t text_bytes,
                                           uint32_t flags, const int32_t** ids, size_t* n_ids);
/* UTF-8, always whole characters; a NUL follows the text. skip_special: leave out special tokens. */
MLLM_API mllm_status mllm_tokenizer_decode(mllm_tokenizer* tokenizer, const int32_t* ids, size_t n_ids,
                                           int32_t skip_special, const char** text, size_t* text_bytes);
MLLM_API mllm_status mllm_tokenizer_token(mllm_tokenizer* tokenizer, int32_t id, mllm_token* token);
/* The id with this spelling, -1 where there is none. */
MLLM_API mllm_status mllm_tokenizer_find(const mllm_tokenizer* tokenizer, const char* piece,
                                         size_t piece_bytes, int32_t* id);

/* Decodes id by id: the parts put together, flush included, are what mllm_tokenizer_decode gives. A part
 * never ends within a character. The tokenizer must outlive it; decoders of one tokenizer may be used by
 * different threads at the same time, and beside calls of the tokenizer itself. */
typedef struct mllm_decoder mllm_decoder;

MLLM_API mllm_status mllm_decoder_create(const mllm_tokenizer* tokenizer, int32_t skip_special,
                                         mllm_decoder** decoder);
MLLM_API void mllm_decoder_close(mllm_decoder* decoder);
MLLM_API mllm_status mllm_decoder_push(mllm_decoder* decoder, int32_t id, const char** text,
                                       size_t* text_bytes);
/* What is left of an unfinished character, as U+FFFD. The next push starts a new text. */
MLLM_API mllm_status mllm_decoder_flush(mllm_decoder* decoder, const char** text, size_t* text_bytes);

/* ---- Structured output: grammars that a text must follow
 * --------------------------------------------------------------------------------------------------- */

/* A grammar made ready for one tokenizer's vocabulary, with a cache of which tokens are allowed where. It
 * takes what it needs of the tokenizer, which may be closed before it. */
typedef struct mllm_grammar mllm_grammar;

typedef enum mllm_grammar_kind {
  MLLM_GRAMMAR_GBNF = 0,        /* llama.cpp's notation; a text is what the rule "root" matches */
  MLLM_GRAMMAR_JSON_SCHEMA = 1, /* a JSON document that is valid under this schema */
  MLLM_GRAMMAR_JSON_OBJECT = 2  /* any JSON object; the source is not looked at */
} mllm_grammar_kind;

/* source: UTF-8, size bytes. MLLM_ERROR_INVALID_ARGUMENT where the grammar or schema is malformed, too large,
 * or matches no text, MLLM_ERROR_FORMAT where the schema is no JSON, MLLM_ERROR_UNSUPPORTED for a part of
 * JSON Schema that is not honoured; the message names line and column, or keyword and place. */
MLLM_API mllm_status mllm_grammar_compile(mllm_tokenizer* tokenizer, mllm_grammar_kind kind,
                                          const char* source, size_t size, mllm_grammar** grammar);
MLLM_API void mllm_grammar_close(mllm_grammar* grammar);

/* Follows one text. It keeps its grammar alive; matchers of one grammar may be used by different threads at
 * the same time. The text begins anew: where the tokenizer's decoder takes the blank of a first word away, so
 * does the matcher. Give it to a decoder of its own, therefore, not to one that has seen the prompt. */
typedef struct mllm_matcher mllm_matcher;

/* end_tokens: ids that end the text where the grammar allows it; NULL: the tokenizer's stop tokens. */
MLLM_API mllm_status mllm_matcher_create(const mllm_grammar* grammar, const int32_t* end_tokens,
                                         size_t n_end_tokens, mllm_matcher** matcher);
MLLM_API mllm_status mllm_matcher_copy(const mllm_matcher* matcher, mllm_matcher** copy);
MLLM_API void mllm_matcher_close(mllm_matcher* matcher);
/* Which tokens may come next: bit id % 32 of word id / 32; ids behind n_words * 32 are not allowed. Owned by
 * the matcher, valid until its next call. MLLM_ERROR_INVALID_ARGUMENT where no token is allowed and the text
 * may not end either: the vocabulary has no token for what must come. */
MLLM_API mllm_status mllm_matcher_mask(mllm_matcher* matcher, const uint32_t** mask, size_t* n_words);
/* The token is part of the text now. MLLM_ERROR_INVALID_ARGUMENT, and nothing changes, where it is not
 * allowed. */
MLLM_API mllm_status mllm_matcher_accept(mllm_matcher* matcher, int32_t token);
/* Takes as much of the text as the grammar allows: *accepted bytes. */
MLLM_API mllm_status mllm_matcher_accept_text(mllm_matcher* matcher, const char* text, size_t size,
                                              size_t* accepted);
/* can_end: the text is complete. must_end: it is, and nothing may follow but an end token. */
MLLM_API mllm_status mllm_matcher_progress(const mllm_matcher* matcher, int32_t* can_end, int32_t* must_end);
/* mllm_sampler_sample among the tokens that the matcher allows, which then accepts the one that was drawn. */
MLLM_API mllm_status mllm_sampler_sample_matching(mllm_sampler* sampler, mllm_matcher* matcher,
                                                  const float* logits, const int32_t* banned, size_t n_banned,
                                                  int32_t* token, float* logprob);

/* ---- Generator: a prompt in, text out
 * --------------------------------------------------------------------------- */

/* A session with what a generation needs around it: tokenizer, sampler, stop conditions. What a prompt has in
 * common with an earlier one of the same generator is still in its KV cache and is not computed again. */
typedef struct mllm_generator mllm_generator;

typedef struct mllm_logit_bias {
  int32_t token;
  float bias; /* added to its logit */
} mllm_logit_bias;

/* What one token added. */
typedef struct mllm_piece {
  const char* text; /* UTF-8, whole characters, a NUL behind it; often "": characters of several tokens, and
                       what may be the beginning of a stop string, are held back */
  size_t text_bytes;
  int32_t token;
  float logprob;       /* log softmax(logits)[token] */
  const float* logits; /* raw, [vocab_size]: what the token was chosen from */
} mllm_piece;

/* Non-zero ends the generation. It may call mllm_generator_cancel and close functions; other calls on the
 * same generator are MLLM_ERROR_BUSY. */
typedef int32_t (*mllm_piece_callback)(void* user, const mllm_piece* piece);

typedef struct mllm_generate_options {
  uint32_t struct_size;                 /* sizeof(mllm_generate_options) */
  int32_t max_tokens;                   /* 0: until the context is full */
  int32_t min_tokens;                   /* do not stop before */
  int32_t ignore_eos;                   /* non-zero: do not end at the model's own end tokens */
  int32_t random_seed;                  /* non-zero: a seed from the system instead of sampling->seed */
  int32_t no_reuse;                     /* non-zero: compute the prompt from its beginning */
  const mllm_sampling_params* sampling; /* NULL: as mllm_sampling_params_init fills it */
  const char* const* stop;              /* end before one of these texts; they may span tokens */
  size_t n_stop;
  const int32_t* stop_tokens; /* end at one of these ids */
  size_t n_stop_tokens;
  const char* const* bad_words; /* never write these texts */
  size_t n_bad_words;
  const mllm_logit_bias* logit_bias;
  size_t n_logit_bias;
  const mllm_grammar*
      grammar; /* the text must follow it, and ends where nothing may follow; NULL: it is free */
  mllm_piece_callback on_piece; /* called after each token; NULL: the text comes at the end only */
  void* user;
} mllm_generate_options;

typedef enum mllm_finish_reason {
  MLLM_FINISH_STOP = 1,     /* an end token, a stop token or a stop string */
  MLLM_FINISH_LENGTH = 2,   /* max_tokens, or the context is full */
  MLLM_FINISH_CANCELLED = 3 /* by mllm_generator_cancel or the callback: there may be no text yet */
} mllm_finish_reason;

typedef struct mllm_generation {
  uint32_t struct_size; /* sizeof(mllm_generation) */
  mllm_finish_reason finish_reason;
  int32_t stop_token; /* the one of stop_tokens that ended it; -1: none of them */
  int32_t stop_index; /* the one of stop that ended it; -1: none */
  int32_t is_full;    /* non-zero: ended for want of room in the context */
  int32_t prompt_tokens;
  int32_t cached_tokens;    /* of the prompt, found in the KV cache */
  int32_t dropped_messages; /* of a chat: the oldest ones, which the model no longer sees */
  const char* text;         /* without special tokens, the stop string and what follows it; a NUL behind it */
  size_t text_bytes;
  const int32_t* tokens; /* every generated id, a final stop token included */
  size_t n_tokens;
  double prompt_seconds; /* until the logits of the first token */
  double decode_seconds; /* for all tokens after the first */
} mllm_generation;

MLLM_API mllm_status mllm_generator_create(mllm_model* model, mllm_generator** generator);
MLLM_API void mllm_generator_close(mllm_generator* generator);
/* Continue a prompt. options may be NULL. generation, when not NULL, points into the generator, until its
 * next call. Text is encoded with the begin token where the model wants it; the spelling of a special token
 * means that token. MLLM_ERROR_CAPACITY where the prompt leaves no room in the context. */
MLLM_API mllm_status mllm_generate_text(mllm_generator* generator, const char* prompt, size_t prompt_bytes,
                                        const mllm_generate_options* options, mllm_generation* generation);
/* Also for bundles without a tokenizer, which then write no text. */
MLLM_API mllm_status mllm_generate_tokens(mllm_generator* generator, const int32_t* prompt, size_t n_prompt,
                                          const mllm_generate_options* options, mllm_generation* generation);
/* End the generation that another thread is inside of, within a layer's time; it returns MLLM_OK with
 * MLLM_FINISH_CANCELLED, and what it computed stays of use. Does nothing where there is none. May be called
 * by any thread, and by a signal handler. */
MLLM_API void mllm_generator_cancel(mllm_generator* generator);

/* ---- Chat: a conversation through the model's chat template
 * ------------------------------------------------------------------- */

/* Messages so far, and the next answer. Earlier turns are still in the generator's KV cache. Chats of one
 * generator take turns; each may be closed before or after it. */
typedef struct mllm_chat mllm_chat;

typedef enum mllm_context_full {
  MLLM_CONTEXT_STOP = 0, /* a conversation that no longer fits is MLLM_ERROR_CAPACITY */
  MLLM_CONTEXT_DROP = 1  /* leave the oldest turns out of what the model sees, until a quarter of the context
                            (or max_tokens, if that is less) is free for the answer */
} mllm_context_full;

typedef struct mllm_chat_options {
  uint32_t struct_size; /* sizeof(mllm_chat_options) */
  mllm_context_full context_full;
  const char* system;        /* system message; NULL or "": none */
  const char* chat_template; /* Jinja; NULL: the bundle's own */
  const char* variables; /* further variables of the template (tools, enable_thinking, …) as a JSON object */
  int64_t local_time;    /* what strftime_now writes, in seconds since 1970 on the local clock; 0: now */
} mllm_chat_options;

/* options may be NULL. MLLM_ERROR_INVALID_ARGUMENT where there is no chat template. */
MLLM_API mllm_status mllm_chat_create(mllm_generator* generator, const mllm_chat_options* options,
                                      mllm_chat** chat);
MLLM_API void mllm_chat_close(mllm_chat* chat);
/* Add what the user says, and the answer to it. On an error, and where it is cancelled before the first text,
 * the conversation is as before; cancelled later, it keeps what was said until then. */
MLLM_API mllm_status mllm_chat_ask(mllm_chat* chat, const char* text, size_t text_bytes,
                                   const mllm_generate_options* options, mllm_generation* generation);
/* Add the answer to the messages as they are: after mllm_chat_load, which may have ended with a tool's
 * result. */
MLLM_API mllm_status mllm_chat_answer(mllm_chat* chat, const mllm_generate_options* options,
                                      mllm_generation* generation);
/* Forget everything but the system message. */
MLLM_API mllm_status mllm_chat_reset(mllm_chat* chat);
/* Put another system message in front; NULL or "" takes it away. */
MLLM_API mllm_status mllm_chat_set_system(mllm_chat* chat, const char* text);
/* The messages as JSON: [{"role": …, "content": …}, …]. Owned by the chat, valid until its next call. */
MLLM_API mllm_status mllm_chat_messages(mllm_chat* chat, const char** json, size_t* json_bytes);
/* Take messages in that form, a system message among them, in place of the present ones. */
MLLM_API mllm_status mllm_chat_load(mllm_chat* chat, const char* json, size_t json_bytes);

#ifdef __cplusplus
}
#endif

#endif /* MINDIR_LLM_H_ */
