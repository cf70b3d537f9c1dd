// Token ids to text, one id at a time.
#ifndef MINDIR_LLM_TEXT_STREAM_DECODER_H_
#define MINDIR_LLM_TEXT_STREAM_DECODER_H_

#include <cstdint>
#include <string>

#include "text/tokenizer.h"

namespace mllm::text {

// Never gives out part of a character: bytes wait until their character is complete or can no longer become
// one. With special tokens shown, the text after one starts anew: "<s>", "▁I" reads "<s>I".
class StreamDecoder {
 public:
  // The tokenizer must outlive the decoder.
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special);

  // Append the text that this id completes. Throws INVALID_ARGUMENT for an id outside the vocabulary.
  void push(int32_t id, std::string& out);
  // End of input: what is left of an unfinished character, as U+FFFD. The next text starts anew.
  void flush(std::string& out);

 private:
  void take(bool final, std::string& out);

  const Tokenizer& tokenizer_;
  DecodingRules rules_;
  bool skip_special_;
  bool at_start_;
  std::string bytes_;  // at most one unfinished character, between calls
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_STREAM_DECODER_H_
