#include "cli/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cli/failure.h"
#include "text/utf8.h"

namespace mllm::cli {
namespace {

[[noreturn]] void fail(const std::string& path) {
  throw Failure(path + ": " + std::strerror(errno));
}

std::string read_all(int file, const std::string& name) {
  std::string out;
  char buffer[1 << 14];
  while (true) {
    const ssize_t n = ::read(file, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(name);
    if (n == 0) return out;
    out.append(buffer, static_cast<size_t>(n));
  }
}

// Closes it whatever happens.
struct File {
  File(const std::string& path, int flags) : descriptor(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {
    if (descriptor < 0) fail(path);
  }
  ~File() { ::close(descriptor); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int descriptor;
};

// False with errno set.
bool write_all(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(file, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    text.remove_prefix(static_cast<size_t>(n));
  }
  return true;
}

}  // namespace

std::string read_file(const std::string& path) {
  const File file(path, O_RDONLY);
  return read_all(file.descriptor, path);
}

std::string read_stdin() {
  return read_all(STDIN_FILENO, "stdin");
}

void write_file(const std::string& path, std::string_view content) {
  const File file(path, O_WRONLY | O_CREAT | O_TRUNC);
  if (!write_all(file.descriptor, content)) fail(path);
}

std::string as_text(std::string content, const std::string& source, bool whole) {
  const size_t valid = text::valid_prefix(content);
  if (valid < content.size()) {
    char byte[8];
    std::snprintf(byte, sizeof byte, "0x%02x", static_cast<unsigned char>(content[valid]));
    throw Failure(source + ": not valid UTF-8: byte " + byte + " at offset " + std::to_string(valid));
  }
  if (!whole && content.ends_with('\n')) content.pop_back();
  return content;
}

void write_out(std::string_view text) {
  if (write_all(STDOUT_FILENO, text)) return;
  if (errno == EPIPE) throw NoReader{};
  fail("stdout");
}

void write_err(std::string_view text) {
  write_all(STDERR_FILENO, text);  // there is nowhere to complain to
}

}  // namespace mllm::cli
