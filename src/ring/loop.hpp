// SPDX-License-Identifier: Apache-2.0
//
// The loop our coroutines run on: posted work and timers, in one thread. What time is and how the thread waits come from the
// loop that is derived from it: `uring_loop` waits in the kernel, a simulation's loop jumps to the next timer.
//
// Invariants
//  1. Only the loop's own thread, within a turn, runs work and resumes coroutines: completions enqueue, the loop resumes.
//  2. Work runs in the order it was posted. Timers due run in the order of their time, equal ones as they were armed.
//  3. post() may be called from any thread; everything else is for the loop's thread.
//  4. What is posted or armed while a turn runs waits for the next turn, so nobody who keeps posting can hold the loop.
//  5. A coroutine that waits for a timer may be destroyed at any moment on the loop's thread, and even after the loop.
//
// Memory: the loop owns posted work until it has run; destroying the loop destroys what has not, without running it.
//
// An Asio operation may complete on a loop: executor() is an Asio executor. (Asio's own timers and sockets must not be made
// on it: they would quietly start a thread of their own.)

#pragma once

#include <boost/asio/execution_context.hpp>

#include <atomic>
#include <chrono>
#include <compare>
#include <coroutine>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "ring/work.hpp"

namespace tidemark::ring {

using clock = std::chrono::steady_clock;

class executor;
class timer;

class loop : public boost::asio::execution_context {
 public:
  loop() = default;
  virtual ~loop();

  /// The loop's time. Any thread.
  virtual clock::time_point now() const noexcept = 0;

  /// Runs `item` on the loop's thread, never inside post(). Any thread. Unbounded: those who post bound themselves.
  void post(std::unique_ptr<work> item) noexcept;

  /// Whether the caller is the thread that runs the loop.
  bool in_loop() const noexcept { return thread_.load(std::memory_order_relaxed) == std::this_thread::get_id(); }

  executor get_executor() noexcept;

 protected:
  /// Makes a waiting loop look at its posted work. Called from any thread, once each time the queue stops being empty.
  virtual void wake() noexcept = 0;

  /// Runs what was posted before the call and resumes the timers that are due. True if there was any of either.
  bool run_ready();

  bool has_posted() const noexcept;
  std::optional<clock::time_point> next_timer() const noexcept;

  /// Marks this thread as the loop's while it lives.
  class running {
   public:
    explicit running(loop& owner) noexcept : owner_(owner) { owner_.thread_.store(std::this_thread::get_id()); }
    ~running() { owner_.thread_.store(std::thread::id{}); }

   private:
    loop& owner_;
  };

 private:
  friend class timer;

  /// Where a timer stands among the others: by its time, then by when it was armed.
  struct turn {
    clock::time_point when;
    std::uint64_t number;
    friend auto operator<=>(const turn&, const turn&) = default;
  };
  using timers = std::map<turn, timer*>;

  void run_due_timers(bool& ran);

  mutable std::mutex mutex_;
  work_queue posted_;
  timers timers_;
  std::uint64_t armings_ = 0;
  std::atomic<std::thread::id> thread_{};
};

/// Waits for a time on a loop. One waiter at a time; loop's thread only.
///   bool came = co_await timer.until(loop.now() + 10ms);   // false: cancel() was called
class timer {
 public:
  explicit timer(loop& owner) noexcept : owner_(owner) {}
  timer(const timer&) = delete;
  ~timer() { disarm(); }

  auto until(clock::time_point when) noexcept {
    struct awaiter {
      timer& self;
      clock::time_point when;
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiting) { self.arm(when, waiting); }
      bool await_resume() const noexcept { return self.came_; }
    };
    return awaiter{*this, when};
  }

  /// Resumes the waiter, if there is one, from the loop; its wait answers false.
  void cancel() noexcept;

 private:
  friend class loop;

  void arm(clock::time_point when, std::coroutine_handle<> waiting);
  void disarm() noexcept;
  void resume_waiter();

  loop& owner_;
  std::optional<loop::timers::iterator> place_;
  std::coroutine_handle<> waiting_;
  bool came_ = false;  ///< until the waiter is resumed: what to tell it
};

}  // namespace tidemark::ring
