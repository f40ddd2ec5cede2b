// SPDX-License-Identifier: Apache-2.0

#include "cli/end_signals.hpp"

#include <liburing.h>
#include <pthread.h>
#include <sys/signalfd.h>

#include <utility>

namespace tidemark::cli {

namespace {

bool is_ignored(int number) noexcept {
  struct sigaction now {};
  return sigaction(number, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

}  // namespace

end_signals::end_signals() {
  sigemptyset(&signals_);
  for (const int number : {SIGINT, SIGTERM})
    if (!is_ignored(number)) sigaddset(&signals_, number);
  pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  file_ = ring::descriptor(signalfd(-1, &signals_, SFD_CLOEXEC));
  if (!file_) let_through();  // nobody would hear them
}

void end_signals::listen(ring::uring_loop& loop, std::function<void()> heard) {
  loop_ = &loop;
  if (file_) ring::start(wait_for_one(std::move(heard)));
}

ring::task<void> end_signals::wait_for_one(std::function<void()> heard) {
  waiting_ = true;
  signalfd_siginfo what{};
  const int got =
      co_await loop_->submit([&](io_uring_sqe* entry) { io_uring_prep_read(entry, file_.get(), &what, sizeof what, 0); });
  waiting_ = false;
  if (got == sizeof what) {
    let_through();
    heard();
  }
  ended_.notify();
}

ring::task<void> end_signals::close() {
  if (waiting_) co_await loop_->submit([this](io_uring_sqe* entry) { io_uring_prep_cancel_fd(entry, file_.get(), 0); });
  while (waiting_) co_await ended_.wait();
}

void end_signals::let_through() noexcept { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace tidemark::cli
