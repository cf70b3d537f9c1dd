// An open model and what turns text into its tokens, shared by everything that uses them.
#ifndef MINDIR_LLM_GENERATE_BUNDLE_H_
#define MINDIR_LLM_GENERATE_BUNDLE_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "session/model.h"
#include "text/tokenizer.h"

namespace mllm {

// May be used by several threads at once.
class Bundle {
 public:
  Bundle(const std::string& path, const ModelOptions& options);

  const std::string& path() const { return path_; }
  const Model& model() const { return *model_; }

  // What is const of the tokenizer, which is read at the first call; null where the bundle has none.
  const text::Tokenizer* tokenizer();
  // Throws INVALID_ARGUMENT where there is no tokenizer; `what` needs one.
  std::vector<int32_t> encode(std::string_view text, text::EncodeOptions options, const char* what);

 private:
  void check_vocabulary(const text::Tokenizer& tokenizer) const;

  std::string path_;
  std::unique_ptr<Model> model_;
  std::mutex mutex_;  // guards what follows, and encoding
  std::unique_ptr<text::Tokenizer> tokenizer_;
};

}  // namespace mllm

#endif  // MINDIR_LLM_GENERATE_BUNDLE_H_
