// Whether files are what the exporter wrote.
#ifndef MINDIR_LLM_SESSION_FILE_CHECK_H_
#define MINDIR_LLM_SESSION_FILE_CHECK_H_

#include <cstddef>
#include <memory>
#include <string>

#include "base/file.h"
#include "base/sha256.h"

namespace mllm {

// The digest of a file, computed while somebody else reads it, so that a slow disk reads it once.
class FileCheck {
 public:
  FileCheck(const std::string& path, std::string sha256);  // throws IO

  // What is in front of `end` has been read, or is about to be. Does nothing for other memory than this
  // file's.
  void read_until(const uint8_t* end);
  // Reads the rest. Throws FORMAT where the digest is another one.
  void finish();

 private:
  std::string path_;
  std::string expected_;
  std::shared_ptr<const MappedFile> file_;
  size_t done_ = 0;
  Sha256 digest_;
};

}  // namespace mllm

#endif  // MINDIR_LLM_SESSION_FILE_CHECK_H_
