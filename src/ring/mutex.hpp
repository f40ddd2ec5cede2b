// SPDX-License-Identifier: Apache-2.0
//
// Coroutines of one thread take their turn at something, first come, first served.
//   const auto turn = co_await mutex.lock();
// Threading: one loop. The mutex outlives those who wait for it.

#pragma once

#include <coroutine>
#include <deque>
#include <utility>

namespace tidemark::ring {

class mutex {
 public:
  class [[nodiscard]] turn {
   public:
    explicit turn(mutex& owner) noexcept : owner_(&owner) {}
    turn(turn&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
    turn& operator=(turn&&) = delete;
    ~turn() {
      if (owner_) owner_->pass_on();
    }

   private:
    mutex* owner_;
  };

  bool is_taken() const noexcept { return taken_; }

  auto lock() {
    struct awaiter {
      mutex& owner;
      bool await_ready() const noexcept { return !std::exchange(owner.taken_, true); }
      void await_suspend(std::coroutine_handle<> waiting) const { owner.waiting_.push_back(waiting); }
      turn await_resume() const noexcept { return turn{owner}; }
    };
    return awaiter{*this};
  }

 private:
  void pass_on() {
    if (waiting_.empty()) {
      taken_ = false;
      return;
    }
    const auto next = waiting_.front();
    waiting_.pop_front();
    next.resume();
  }

  std::deque<std::coroutine_handle<>> waiting_;
  bool taken_ = false;
};

}  // namespace tidemark::ring
