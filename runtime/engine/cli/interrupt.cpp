#include "cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "cli/failure.h"

namespace mllm::cli {
namespace {

std::atomic<mllm_generator*> answering{nullptr};
std::atomic<bool> is_reading{false};
std::atomic<bool> was_seen{false};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<mllm_generator*>::is_always_lock_free);

void on_interrupt(int) {
  if (is_reading) {
    was_seen = true;
    return;
  }
  mllm_generator* const generator = answering;
  if (!generator || was_seen.exchange(true)) ::_exit(kInterrupted);
  mllm_generator_cancel(generator);
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
  was_seen = false;
  answering = generator;
}

AnswerGuard::~AnswerGuard() {
  answering = nullptr;
}

LineGuard::LineGuard() {
  was_seen = false;
  is_reading = true;
}

LineGuard::~LineGuard() {
  is_reading = false;
}

bool LineGuard::was_interrupted() const {
  return was_seen;
}

}  // namespace mllm::cli
