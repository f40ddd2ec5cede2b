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
      // Behind those who wait, though it may be between two turns.
      bool await_ready() const noexcept { return owner.waiting_.empty() && !std::exchange(owner.taken_, true); }
      void await_suspend(std::coroutine_handle<> waiting) const { owner.waiting_.push_back(waiting); }
      turn await_resume() const noexcept { return turn{owner}; }
    };
    return awaiter{*this};
  }

 private:
  // Who goes on may be done at once: then it is the loop, further up the stack, that comes to the next.
  void pass_on() {
    taken_ = false;
    if (std::exchange(passing_on_, true)) return;
    while (!taken_ && !waiting_.empty()) {
      const auto next = waiting_.front();
      waiting_.pop_front();
      taken_ = true;
      next.resume();
    }
    passing_on_ = false;
  }

  std::deque<std::coroutine_handle<>> waiting_;
  bool taken_ = false;
  bool passing_on_ = false;
};

}  // namespace tidemark::ring
