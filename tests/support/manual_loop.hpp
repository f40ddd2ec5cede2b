// SPDX-License-Identifier: Apache-2.0
//
// A loop driven by hand, in virtual time: nothing happens but inside the calls below, and time passes only when nothing is
// left to do at the present moment. Equal programs on it run equally.
//
// Threading: one thread, now() and all. Posting from another thread is possible; whoever drives the loop then finds the
// work.

#pragma once

#include <algorithm>

#include "ring/loop.hpp"

namespace tidemark::tests {

class manual_loop final : public ring::loop {
 public:
  ring::clock::time_point now() const noexcept override { return now_; }

  /// Moves the clock, forwards only. Runs nothing.
  void set_now(ring::clock::time_point time) noexcept { now_ = std::max(now_, time); }

  /// One turn at the present moment. True if it ran anything.
  bool turn() {
    const running here(*this);
    return run_ready();
  }

  /// Turns until nothing is posted and no timer is due. No time passes.
  void run_until_idle() {
    while (turn()) {
    }
  }

  /// As run_until_idle(), and lets `span` pass, stopping at every timer on the way.
  void run_for(ring::clock::duration span) { run_to(now_ + span); }

  /// One turn, after a jump to the next timer if there is nothing else to do. False: nothing is posted and no timer is
  /// armed.
  bool run_next() {
    if (turn()) return true;
    const auto next = next_timer();
    if (!next) return false;
    set_now(*next);
    return turn();
  }

  /// Runs until nothing is posted and no timer is armed. A coroutine that always arms another never lets this return.
  void run() { run_to(ring::clock::time_point::max(), false); }

 private:
  void wake() noexcept override {}

  void run_to(ring::clock::time_point end, bool reach_end = true) {
    run_until_idle();
    for (auto next = next_timer(); next && *next <= end; next = next_timer()) {
      set_now(*next);
      run_until_idle();
    }
    if (reach_end) set_now(end);
  }

  ring::clock::time_point now_{};
};

}  // namespace tidemark::tests
