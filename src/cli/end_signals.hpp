// SPDX-License-Identifier: Apache-2.0
//
// SIGINT and SIGTERM as a loop hears of them: the first is a wish to end, which is told to whoever can; from then on the
// next one ends the process as it ends any other. One that was ignored when the program was started stays ignored.
//
// Threading: made on the main thread before there are others, which inherit that they are not interrupted; used and
// destroyed on it.

#pragma once

#include <csignal>
#include <functional>

#include "ring/condition.hpp"
#include "ring/descriptor.hpp"
#include "ring/task.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::cli {

class end_signals {
 public:
  end_signals();
  end_signals(const end_signals&) = delete;
  ~end_signals() { let_through(); }

  /// `heard` is called in the loop, once. A signal that came before is heard, too.
  void listen(ring::uring_loop& loop, std::function<void()> heard);
  /// From now on they end the process: for where there is nobody to tell.
  void let_through() noexcept;
  /// Before the loop ends.
  ring::task<void> close();

 private:
  ring::task<void> wait_for_one(std::function<void()> heard);

  sigset_t signals_;
  sigset_t before_;  ///< what was blocked
  ring::descriptor file_;
  ring::uring_loop* loop_ = nullptr;
  bool waiting_ = false;
  ring::condition ended_;
};

}  // namespace tidemark::cli
