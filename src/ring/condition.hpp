// SPDX-License-Identifier: Apache-2.0
//
// Coroutines of one thread wait until something may have changed.
//   while (!done) co_await changed.wait();
// Threading: one loop or strand. The condition outlives those who wait for it.

#pragma once

#include <coroutine>
#include <utility>
#include <vector>

namespace tidemark::ring {

class condition {
 public:
  auto wait() {
    struct awaiter {
      condition& owner;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiting) const { owner.waiting_.push_back(waiting); }
      void await_resume() const noexcept {}
    };
    return awaiter{*this};
  }

  /// Resumes all who wait now, inside the call. Those who wait again wait for the next. The condition may be destroyed by
  /// one of them if none of the others is left.
  void notify() {
    for (const auto waiting : std::exchange(waiting_, {})) waiting.resume();
  }

 private:
  std::vector<std::coroutine_handle<>> waiting_;
};

}  // namespace tidemark::ring
