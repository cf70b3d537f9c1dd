#include "cli/output.h"

#include "cli/failure.h"
#include "cli/files.h"

namespace mllm::cli {

void Output::attach(mllm_generate_options& options) {
  options.on_piece = on_piece;
  options.user = this;
}

void Output::write(std::string_view text) {
  if (text.empty()) return;
  last_ = text.back();
  write_out(text);
}

void Output::end() {
  if (has_no_reader_) throw NoReader{};
  if (last_ != '\n') write_out("\n");
}

int32_t Output::on_piece(void* user, const mllm_piece* piece) {
  auto* output = static_cast<Output*>(user);
  try {
    output->write({piece->text, piece->text_bytes});
  } catch (...) {  // must not pass the C interface
    output->has_no_reader_ = true;
  }
  return output->has_no_reader_;
}

}  // namespace mllm::cli
