// The C interface of tokenizers.
#include "text/tokenizer.h"

#include <memory>
#include <string>
#include <vector>

#include "api/errors.h"
#include "api/handles.h"
#include "text/open.h"
#include "text/stream_decoder.h"

using mllm::api::guard;
using mllm::api::require;

struct mllm_decoder {
  mllm_decoder(const mllm::text::Tokenizer& tokenizer, bool skip_special)
      : decoder(tokenizer, skip_special) {}
  mllm::text::StreamDecoder decoder;
  std::string text;  // of the last call
};

extern "C" {

mllm_status mllm_tokenizer_open(const char* path, mllm_tokenizer** tokenizer) {
  return guard([&] {
    require(path, "path");
    require(tokenizer, "tokenizer");
    *tokenizer = nullptr;
    *tokenizer = new mllm_tokenizer{mllm::text::open_tokenizer(path)};
  });
}

void mllm_tokenizer_close(mllm_tokenizer* tokenizer) {
  delete tokenizer;
}

mllm_status mllm_tokenizer_get_info(const mllm_tokenizer* tokenizer, mllm_tokenizer_info* info) {
  return guard([&] {
    require(tokenizer, "tokenizer");
    require(info, "info");
    const mllm::text::SpecialIds& special = tokenizer->tokenizer->special_ids();
    *info = {.vocab_size = tokenizer->tokenizer->vocab_size(),
             .bos_token_id = special.bos,
             .eos_token_id = special.eos,
             .add_bos_token = special.add_bos ? 1 : 0,
             .add_eos_token = special.add_eos ? 1 : 0};
  });
}

mllm_status mllm_tokenizer_stop_tokens(const mllm_tokenizer* tokenizer, const int32_t** ids, size_t* n_ids) {
  return guard([&] {
    require(tokenizer, "tokenizer");
    require(ids, "ids");
    require(n_ids, "n_ids");
    const std::vector<int32_t>& stop = tokenizer->tokenizer->special_ids().stop;
    *ids = stop.data();
    *n_ids = stop.size();
  });
}

mllm_status mllm_tokenizer_encode(mllm_tokenizer* tokenizer, const char* text, size_t text_bytes,
                                  uint32_t flags, const int32_t** ids, size_t* n_ids) {
  return guard([&] {
    require(tokenizer, "tokenizer");
    if (text_bytes) require(text, "text");
    require(ids, "ids");
    require(n_ids, "n_ids");
    if (flags & ~uint32_t{MLLM_ENCODE_ADD_SPECIAL | MLLM_ENCODE_PARSE_SPECIAL})
      mllm::fail_argument("flags has " + std::to_string(flags) + ", which is no sum of mllm_encode_flags");
    tokenizer->ids = tokenizer->tokenizer->encode(
        {text, text_bytes}, {.add_special = (flags & MLLM_ENCODE_ADD_SPECIAL) != 0,
                             .parse_special = (flags & MLLM_ENCODE_PARSE_SPECIAL) != 0});
    *ids = tokenizer->ids.data();
    *n_ids = tokenizer->ids.size();
  });
}

mllm_status mllm_tokenizer_decode(mllm_tokenizer* tokenizer, const int32_t* ids, size_t n_ids,
                                  int32_t skip_special, const char** text, size_t* text_bytes) {
  return guard([&] {
    require(tokenizer, "tokenizer");
    if (n_ids) require(ids, "ids");
    require(text, "text");
    require(text_bytes, "text_bytes");
    tokenizer->text = tokenizer->tokenizer->decode({ids, n_ids}, skip_special != 0);
    *text = tokenizer->text.c_str();
    *text_bytes = tokenizer->text.size();
  });
}

mllm_status mllm_tokenizer_token(mllm_tokenizer* tokenizer, int32_t id, mllm_token* token) {
  return guard([&] {
    require(tokenizer, "tokenizer");
    require(token, "token");
    const mllm::text::Tokenizer& t = *tokenizer->tokenizer;
    tokenizer->piece = t.piece(id);
    tokenizer->text = t.bytes(id);
    // The C enumeration has the same order.
    *token = {.kind = static_cast<mllm_token_kind>(t.kind(id)),
              .piece = tokenizer->piece.c_str(),
              .piece_bytes = tokenizer->piece.size(),
              .text = tokenizer->text.c_str(),
              .text_bytes = tokenizer->text.size()};
  });
}

mllm_status mllm_tokenizer_find(const mllm_tokenizer* tokenizer, const char* piece, size_t piece_bytes,
                                int32_t* id) {
  return guard([&] {
    require(tokenizer, "tokenizer");
    if (piece_bytes) require(piece, "piece");
    require(id, "id");
    *id = tokenizer->tokenizer->find({piece, piece_bytes});
  });
}

mllm_status mllm_decoder_create(const mllm_tokenizer* tokenizer, int32_t skip_special,
                                mllm_decoder** decoder) {
  return guard([&] {
    require(decoder, "decoder");
    *decoder = nullptr;
    require(tokenizer, "tokenizer");
    *decoder = new mllm_decoder(*tokenizer->tokenizer, skip_special != 0);
  });
}

void mllm_decoder_close(mllm_decoder* decoder) {
  delete decoder;
}

mllm_status mllm_decoder_push(mllm_decoder* decoder, int32_t id, const char** text, size_t* text_bytes) {
  return guard([&] {
    require(decoder, "decoder");
    require(text, "text");
    require(text_bytes, "text_bytes");
    decoder->text.clear();
    decoder->decoder.push(id, decoder->text);
    *text = decoder->text.c_str();
    *text_bytes = decoder->text.size();
  });
}

mllm_status mllm_decoder_flush(mllm_decoder* decoder, const char** text, size_t* text_bytes) {
  return guard([&] {
    require(decoder, "decoder");
    require(text, "text");
    require(text_bytes, "text_bytes");
    decoder->text.clear();
    decoder->decoder.flush(decoder->text);
    *text = decoder->text.c_str();
    *text_bytes = decoder->text.size();
  });
}
}
