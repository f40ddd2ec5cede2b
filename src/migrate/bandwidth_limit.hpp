// SPDX-License-Identifier: Apache-2.0
//
// Keeps whoever sends to so many bytes a second, on average.
//
// Threading: the loop's thread, one waiter at a time; set() from any thread.

#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "ring/loop.hpp"
#include "ring/task.hpp"

namespace tidemark::migrate {

class bandwidth_limit {
 public:
  explicit bandwidth_limit(ring::loop& loop) noexcept : loop_(loop), pace_(loop) {}

  /// 0: unlimited. From the next on.
  void set(std::uint64_t bytes_per_s) noexcept { bytes_per_s_ = bytes_per_s; }

  /// Unlimited, for whoever waits already, too. The loop's thread.
  void lift() {
    set(0);
    pace_.cancel();
  }

  /// Until so many bytes may be sent.
  ring::task<void> await_turn(std::uint64_t bytes) {
    const auto limit = bytes_per_s_.load();
    if (limit == 0) co_return;
    const auto now = loop_.now();
    if (free_at_ > now) co_await pace_.until(free_at_);
    // What a late timer lost is made good by the next, for up to 10 ms: the average keeps to the limit, idle time is not
    // saved up.
    free_at_ = std::max(free_at_, now - std::chrono::milliseconds(10));
    free_at_ +=
        std::chrono::nanoseconds(static_cast<std::int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(limit)));
  }

 private:
  ring::loop& loop_;
  std::atomic<std::uint64_t> bytes_per_s_ = 0;
  ring::timer pace_;
  ring::clock::time_point free_at_{};
};

}  // namespace tidemark::migrate
