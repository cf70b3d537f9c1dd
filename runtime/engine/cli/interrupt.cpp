#include "cli/interrupt.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "cli/failure.h"

namespace mllm::cli {
namespace {

std::atomic<mllm_generator*> answering{nullptr};
// Words and not bools: RISC-V exchanges nothing smaller without libatomic, and a handler may use no locks.
std::atomic<int> is_reading{0};
std::atomic<int> is_conversing{0};
std::atomic<int> was_seen{0};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<mllm_generator*>::is_always_lock_free);

void on_interrupt(int) {
  if (is_reading) {
    was_seen = 1;
    return;
  }
  if (mllm_generator* const generator = answering) {
    if (was_seen.exchange(1)) ::_exit(kInterrupted);
    mllm_generator_cancel(generator);
    return;
  }
  if (!is_conversing) ::_exit(kInterrupted);
}

}  // namespace

void handle_interrupts() {
  struct sigaction before{};
  ::sigaction(SIGINT, nullptr, &before);
  if (before.sa_handler == SIG_IGN) return;
  struct sigaction action{};
  action.sa_handler = on_interrupt;  // without SA_RESTART, so that a read ends
  ::sigaction(SIGINT, &action, nullptr);
}

AnswerGuard::AnswerGuard(mllm_generator* generator) {
  was_seen = 0;
  answering = generator;
}

AnswerGuard::~AnswerGuard() {
  answering = nullptr;
}

LineGuard::LineGuard() {
  was_seen = 0;
  is_reading = 1;
}

LineGuard::~LineGuard() {
  is_reading = 0;
}

bool LineGuard::wait_for_input() const {
  // Blocked but while poll waits: a signal right before it would otherwise be lost.
  sigset_t interrupt, before;
  ::sigemptyset(&interrupt);
  ::sigaddset(&interrupt, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &interrupt, &before);
  pollfd input{STDIN_FILENO, POLLIN, 0};
  int ready = 0;
  while (!was_seen && ready <= 0) {
    ready = ::ppoll(&input, 1, nullptr, &before);
    if (ready < 0 && errno != EINTR) break;  // read() will say what is wrong
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return !was_seen;
}

ConversationGuard::ConversationGuard() {
  is_conversing = 1;
}

ConversationGuard::~ConversationGuard() {
  is_conversing = 0;
}

}  // namespace mllm::cli
