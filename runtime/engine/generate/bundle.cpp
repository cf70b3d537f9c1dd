#include "generate/bundle.h"

#include "base/error.h"
#include "base/isa.h"
#include "base/log.h"
#include "text/open.h"

namespace mllm {
namespace {

void log_opened(const std::string& path, const Model& model) {
  if (!has_log()) return;
  log(MLLM_LOG_INFO, path + ": " + std::to_string(model.weight_bytes()) + " bytes of weights, " +
                         std::to_string(model.pool().threads()) + " threads, " +
                         std::string(isa_name(current_isa())) + " kernels" +
                         (model.is_exact() ? ", exact activations" : ""));
  if (model.memory().limit != 0) log(MLLM_LOG_INFO, path + ": " + model.memory().text);
  if (!model.is_fused()) {
    log(MLLM_LOG_WARNING,
        path + ": part of its graphs matches no fused operator and runs node by node, which is slow");
  }
}

}  // namespace

Bundle::Bundle(const std::string& path, const ModelOptions& options) : path_(path) {
  // Within a limit the tokenizer comes first: while it is read it takes more memory than afterwards.
  if (options.max_memory != 0 && !options.tokens_only && Manifest::read(path).tokenizer) {
    tokenizer_ = text::open_tokenizer(path);
  }
  model_ = Model::open(path, options);
  if (tokenizer_) check_vocabulary(*tokenizer_);
  log_opened(path_, *model_);
}

void Bundle::check_vocabulary(const text::Tokenizer& tokenizer) const {
  const int32_t vocabulary = model_->manifest().vocab_size;
  if (tokenizer.vocab_size() <= vocabulary) return;
  fail_format(path_ + ": the tokenizer has " + std::to_string(tokenizer.vocab_size()) +
              " tokens, but the model's vocabulary only " + std::to_string(vocabulary) +
              "; it belongs to another model");
}

const text::Tokenizer* Bundle::tokenizer() {
  if (!model_->manifest().tokenizer) return nullptr;
  const std::lock_guard lock(mutex_);
  if (!tokenizer_) {
    auto opened = text::open_tokenizer(path_);
    check_vocabulary(*opened);
    tokenizer_ = std::move(opened);
  }
  return tokenizer_.get();
}

std::vector<int32_t> Bundle::encode(std::string_view text, text::EncodeOptions options, const char* what) {
  if (!tokenizer()) fail_argument(path_ + ": " + what + " a tokenizer, and the bundle has none");
  const std::lock_guard lock(mutex_);  // encoding keeps a cache of words
  return tokenizer_->encode(text, options);
}

}  // namespace mllm
