// The text of a generation on its way to stdout.
#ifndef MINDIR_LLM_CLI_OUTPUT_H_
#define MINDIR_LLM_CLI_OUTPUT_H_

#include <string_view>

#include "include/mindir_llm.h"

namespace mllm::cli {

class Output {
 public:
  // Has the generator write its pieces here, for as long as this lives.
  void attach(mllm_generate_options& options);
  void write(std::string_view text);  // throws NoReader
  // The end of a text: its line is complete. Throws NoReader, also where a piece found nobody.
  void end();

 private:
  static int32_t on_piece(void* user, const mllm_piece* piece);

  char last_ = 0;
  bool has_no_reader_ = false;
};

}  // namespace mllm::cli

#endif  // MINDIR_LLM_CLI_OUTPUT_H_
