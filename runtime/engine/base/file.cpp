#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace mllm {
namespace {

[[noreturn]] void fail_system(const std::string& path, const char* what) {
  fail_io(path + ": cannot " + what + ": " + std::strerror(errno));
}

struct Descriptor {
  explicit Descriptor(const std::string& path) : fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd < 0) fail_system(path, "open");
  }
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int fd;
};

struct stat regular_file(const Descriptor& file, const std::string& path) {
  struct stat info{};
  if (::fstat(file.fd, &info) != 0) fail_system(path, "read");
  if (!S_ISREG(info.st_mode)) fail_io(path + ": not a regular file");
  return info;
}

// Which bytes a file holds, as far as the system can tell: device, inode, size, time of the last change.
using FileIdentity = std::array<int64_t, 5>;

FileIdentity identity(const struct stat& info) {
  return {static_cast<int64_t>(info.st_dev), static_cast<int64_t>(info.st_ino),
          static_cast<int64_t>(info.st_size), static_cast<int64_t>(info.st_ctim.tv_sec),
          static_cast<int64_t>(info.st_ctim.tv_nsec)};
}

// The maps that are in use. The graphs of a bundle name one set of weights; mapped once, its pages count
// once.
struct OpenMaps {
  std::mutex mutex;
  std::map<FileIdentity, std::weak_ptr<const MappedFile>> maps;
};

OpenMaps& open_maps() {
  static OpenMaps maps;
  return maps;
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::string& path) {
  Descriptor file(path);
  const struct stat info = regular_file(file, path);
  const FileIdentity key = identity(info);
  OpenMaps& open = open_maps();
  std::lock_guard lock(open.mutex);
  if (const auto found = open.maps.find(key); found != open.maps.end()) {
    if (auto mapped = found->second.lock()) return mapped;
  }
  std::erase_if(open.maps, [](const auto& entry) { return entry.second.expired(); });
  std::shared_ptr<MappedFile> mapped(new MappedFile());
  mapped->path_ = path;
  mapped->size_ = static_cast<size_t>(info.st_size);
  if (mapped->size_ != 0) {  // mmap refuses empty files
    void* data = ::mmap(nullptr, mapped->size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (data == MAP_FAILED) {
      mapped->size_ = 0;
      fail_system(path, "map");
    }
    mapped->data_ = static_cast<const uint8_t*>(data);
  }
  mapped->fd_ = std::exchange(file.fd, -1);
  open.maps[key] = mapped;
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<uint8_t*>(data_), size_);
  if (fd_ >= 0) ::close(fd_);
}

std::shared_ptr<const MappedFile> MappedFile::file_of(const void* data, size_t bytes) {
  const auto begin = reinterpret_cast<uintptr_t>(data);
  OpenMaps& open = open_maps();
  std::lock_guard lock(open.mutex);
  for (const auto& [key, weak] : open.maps) {
    auto map = weak.lock();
    if (!map) continue;
    const auto start = reinterpret_cast<uintptr_t>(map->data_);
    if (begin >= start && bytes <= map->size_ && begin - start <= map->size_ - bytes) return map;
  }
  return nullptr;
}

// Nothing where it is not a mapped file's.
std::span<uint8_t> MappedFile::pages(const void* data, size_t bytes, bool outward) {
  if (!file_of(data, bytes)) return {};
  const auto begin = reinterpret_cast<uintptr_t>(data);
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t first = (outward ? begin : begin + page - 1) / page * page;
  const uintptr_t last = (outward ? begin + bytes + page - 1 : begin + bytes) / page * page;
  if (bytes == 0 || first >= last) return {};
  return {reinterpret_cast<uint8_t*>(first), last - first};
}

void MappedFile::read_ahead(const void* data, size_t bytes) {
  // The system may begin no more than one request of the disk at a call, so ask for large ones, and then
  // again for what a disk with smaller ones has left out; where there is nothing left that costs little.
  const std::span<uint8_t> range = pages(data, bytes, true);
  for (const size_t request : {size_t{1} << 20, size_t{128} << 10}) {
    for (size_t at = 0; at < range.size(); at += request) {
      ::madvise(range.data() + at, std::min(request, range.size() - at), MADV_WILLNEED);
    }
  }
}

void MappedFile::release(const void* data, size_t bytes) {
  const std::span<uint8_t> range = pages(data, bytes, true);
  if (!range.empty()) ::madvise(range.data(), range.size(), MADV_DONTNEED);
}

void MappedFile::copy(const void* data, size_t bytes, void* to) const {
  auto* out = static_cast<uint8_t*>(to);
  auto at = static_cast<off_t>(static_cast<const uint8_t*>(data) - data_);
  while (bytes > 0) {
    const ssize_t n = ::pread(fd_, out, bytes, at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_system(path_, "read");
    if (n == 0) fail_io(path_ + ": has become shorter while it is in use");
    out += n;
    at += n;
    bytes -= static_cast<size_t>(n);
  }
}

MappedFile::Reading::Reading(const void* data, size_t bytes) : pages_(pages(data, bytes)) {
#if defined(MADV_POPULATE_READ)
  // One call instead of a page fault per 64 KiB; kernels before 5.14 lack it, and fault.
  if (!pages_.empty()) ::madvise(pages_.data(), pages_.size(), MADV_POPULATE_READ);
#endif
}

MappedFile::Reading::~Reading() {
  if (!pages_.empty()) ::madvise(pages_.data(), pages_.size(), MADV_DONTNEED);
}

std::string read_file(const std::string& path, size_t limit) {
  const Descriptor file(path);
  const auto size = static_cast<size_t>(regular_file(file, path).st_size);
  if (size > limit) {
    fail_format(path + ": " + std::to_string(size) + " bytes, more than the " + std::to_string(limit) +
                " this file may have");
  }
  std::string text(size, '\0');
  size_t done = 0;
  while (done < size) {
    const ssize_t n = ::read(file.fd, text.data() + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_system(path, "read");
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  text.resize(done);
  return text;
}

std::string system_text(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "";
  std::string text(1 << 14, '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::read(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    done += static_cast<size_t>(n);
  }
  ::close(fd);
  text.resize(done);
  return text;
}

bool is_confined_path(std::string_view relative) {
  if (relative.empty() || relative.front() == '/' || relative.find('\0') != std::string_view::npos)
    return false;
  while (!relative.empty()) {
    const size_t slash = relative.find('/');
    if (relative.substr(0, slash) == "..") return false;
    if (slash == std::string_view::npos) break;
    relative.remove_prefix(slash + 1);
  }
  return true;
}

std::string parent_folder(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace mllm
