// SPDX-License-Identifier: Apache-2.0
//
// Two ways to run a coroutine in a test: to its end on a uring_loop, or as far as it goes with the frame in the test's
// hands. Threading: the test's thread.

#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "ring/task.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::tests {

/// A coroutine that starts at once and whose frame lives exactly as long as this object, finished or not.
class held {
 public:
  struct promise_type {
    held get_return_object() noexcept { return held{std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };

  held(held&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
  ~held() { destroy(); }

  bool done() const noexcept { return frame_.done(); }
  void destroy() noexcept {
    if (auto frame = std::exchange(frame_, nullptr)) frame.destroy();
  }

 private:
  explicit held(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}

  std::coroutine_handle<promise_type> frame_;
};

template <class T>
held hold(ring::task<T> work) {
  co_await std::move(work);
}

/// Runs `work` and whatever it starts until `work` is done.
inline void run_on(ring::uring_loop& owner, ring::task<> work) {
  start([](ring::uring_loop& loop, ring::task<> inner) -> ring::task<> {
    co_await std::move(inner);
    loop.stop();
  }(owner, std::move(work)));
  owner.run().value();
}

}  // namespace tidemark::tests
