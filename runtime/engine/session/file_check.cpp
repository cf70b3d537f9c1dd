#include "session/file_check.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "base/error.h"

namespace mllm {

FileCheck::FileCheck(const std::string& path, std::string sha256)
    : path_(path), expected_(std::move(sha256)), file_(MappedFile::open(path)) {}

void FileCheck::read_until(const uint8_t* end) {
  constexpr size_t kPart = size_t{1} << 20;
  const auto bytes = file_->bytes();
  const uint8_t* begin = bytes.data();
  if (std::less<>()(end, begin) || std::less<>()(begin + bytes.size(), end)) return;
  const auto goal = static_cast<size_t>(end - begin);
  while (done_ < goal) {
    const auto part = bytes.subspan(done_, std::min(kPart, goal - done_));
    const auto next = bytes.subspan(done_ + part.size());
    MappedFile::read_ahead(next.data(), std::min(next.size(), kPart));
    const MappedFile::Reading reading(part.data(), part.size());
    digest_.update(part);
    done_ += part.size();
  }
}

void FileCheck::finish() {
  const auto bytes = file_->bytes();
  if (!bytes.empty()) read_until(bytes.data() + bytes.size());
  if (digest_.hex() == expected_) return;
  fail_format(
      path_ +
      ": the sha256 differs from manifest.json; the file is damaged, copy or export the bundle again");
}

}  // namespace mllm
