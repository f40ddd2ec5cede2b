// SPDX-License-Identifier: Apache-2.0
//
// A mutex of one word, for what is locked twice for every request and nearly never waited for: then locking and unlocking
// are an instruction each, inline, where pthread's come to seventy with their calls. Who has to wait sleeps in the kernel.
// Not recursive, not fair.
//
// Meets the requirements of std::lock_guard and std::unique_lock. Threading: any.

#pragma once

#include <atomic>

namespace tidemark::core {

class light_mutex {
 public:
  light_mutex() noexcept = default;
  light_mutex(const light_mutex&) = delete;

  void lock() noexcept {
    int expected = is_free;
    if (!state_.compare_exchange_strong(expected, is_held, std::memory_order_acquire)) wait_for_it();
  }

  void unlock() noexcept {
    if (state_.exchange(is_free, std::memory_order_release) == is_waited_for) state_.notify_one();
  }

 private:
  static constexpr int is_free = 0;
  static constexpr int is_held = 1;
  static constexpr int is_waited_for = 2;  // held, and perhaps somebody sleeps

  [[gnu::noinline]] void wait_for_it() noexcept {
    while (state_.exchange(is_waited_for, std::memory_order_acquire) != is_free)
      state_.wait(is_waited_for, std::memory_order_relaxed);
  }

  std::atomic<int> state_ = is_free;
};

}  // namespace tidemark::core
