#include "cli/child.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "cli/failure.h"

namespace mllm::cli {
namespace {

void send(int to, char kind, const void* data, size_t bytes) {
  std::string all(1, kind);
  all.append(static_cast<const char*>(data), bytes);
  for (size_t at = 0; at < all.size();) {
    const ssize_t n = ::write(to, all.data() + at, all.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;  // the parent has gone
    at += static_cast<size_t>(n);
  }
}

std::string receive(int from) {
  std::string out;
  char buffer[4096];
  while (true) {
    const ssize_t n = ::read(from, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return out;
    out.append(buffer, static_cast<size_t>(n));
  }
}

}  // namespace

std::vector<double> in_child(const std::function<std::vector<double>()>& work) {
  int ends[2];
  if (::pipe(ends) != 0) throw Failure(std::string("pipe: ") + std::strerror(errno));
  const pid_t child = ::fork();
  if (child < 0) throw Failure(std::string("fork: ") + std::strerror(errno));
  if (child == 0) {
    ::close(ends[0]);
    try {
      const std::vector<double> numbers = work();
      send(ends[1], 'n', numbers.data(), numbers.size() * sizeof(double));
    } catch (const std::exception& error) {
      send(ends[1], 'e', error.what(), std::strlen(error.what()));
    }
    ::_exit(0);  // freeing gigabytes page by page is not part of any measurement
  }
  ::close(ends[1]);
  const std::string answer = receive(ends[0]);
  ::close(ends[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (answer.empty()) throw Failure("a measuring process ended early; is there enough memory?");
  if (answer[0] == 'e') throw Failure(answer.substr(1));
  std::vector<double> numbers((answer.size() - 1) / sizeof(double));
  std::memcpy(numbers.data(), answer.data() + 1, numbers.size() * sizeof(double));
  return numbers;
}

}  // namespace mllm::cli
