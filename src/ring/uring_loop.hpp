// SPDX-License-Identifier: Apache-2.0
//
// The loop that waits in the kernel: one thread, one io_uring. A coroutine awaits submit(); its request enters the ring at
// the end of the turn, together with all others of that turn, in the same system call that waits for answers.
//
// Threading: make() on any thread. The first run() binds the ring to its thread: every later run() is on that thread too,
// and so is the destructor, unless that thread has ended (the kernel takes back what an ending thread had under way).
// stop(), post() and now() may be called from any thread; everything else is for the loop's thread.
//
// Invariants
//  1. A turn: run posted work and due timers, hand requests to the kernel, wait, take all answers, then resume those who
//     waited for them. Answers only enqueue; nothing is resumed while answers are being taken.
//  2. The thread sleeps in the kernel whenever nothing is posted, due or answered. It never spins.
//  3. One request is one ring entry and one answer: no linked, multishot or zero-copy-send entries.
//  4. Memory that an entry names (buffers, iovecs, msghdr) belongs to the kernel until the answer is taken. It lives in the
//     frame of the waiting coroutine, or outlives that frame.
//  5. Destroying a frame that waits takes its request back: it is cancelled, and the destructor returns when the kernel
//     has let go of it. Destroying the loop does so for all requests and resumes nobody; the frames may be destroyed later.
//  6. A descriptor must not exist only in an answer (accept, open): an answer nobody is resumed for would leak it.
//
// Bounds: requests chain through the frames of those who wait, so there is no queue to overflow. What exceeds the ring's
// `entries` in one turn takes further system calls; what the kernel has no memory for is tried again a millisecond later.

#pragma once

#include <liburing.h>
#include <tidemark/error.hpp>

#include <boost/intrusive/list.hpp>

#include <atomic>
#include <cerrno>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "ring/loop.hpp"

namespace tidemark::ring {

class uring_loop;

/// One request to the kernel, from the moment it is awaited until its coroutine goes on. Part of that coroutine's frame.
class request : public boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
 public:
  request(const request&) = delete;
  request& operator=(const request&) = delete;

 protected:
  explicit request(uring_loop& owner) noexcept : owner_(&owner) {}
  virtual ~request() = default;

  virtual void prepare(io_uring_sqe* entry) noexcept = 0;

  bool refused() const noexcept;
  void begin(std::coroutine_handle<> waiting) noexcept;
  void abandon() noexcept;
  int answer() const noexcept { return answer_; }

 private:
  friend class uring_loop;
  enum class place : std::uint8_t { nowhere, backlog, kernel, answered };

  uring_loop* owner_;
  std::coroutine_handle<> waiting_;
  int answer_ = -ECANCELED;
  place place_ = place::nowhere;
};

/// What submit() answers: await it once, where it was made.
template <class Prepare>
class submission final : public request {
 public:
  submission(uring_loop& owner, Prepare fill) noexcept : request(owner), prepare_(std::move(fill)) {}
  ~submission() override { abandon(); }  // here and not in request: the kernel may be using what prepare_ holds

  bool await_ready() const noexcept { return refused(); }
  void await_suspend(std::coroutine_handle<> waiting) noexcept { begin(waiting); }
  int await_resume() const noexcept { return answer(); }

 private:
  void prepare(io_uring_sqe* entry) noexcept override { prepare_(entry); }

  Prepare prepare_;
};

class uring_loop final : public loop {
 public:
  /// A loop that no thread runs yet. Its error says why the kernel gave no ring and what mends that.
  static result<std::unique_ptr<uring_loop>> make();

  ~uring_loop() override;

  clock::time_point now() const noexcept override { return clock::now(); }

  /// Runs turns until stop(). May be called again, on the same thread; what was under way goes on then. Fails at once on
  /// another thread, and when the kernel refuses the ring (a broken ring; nothing that a request can cause).
  result<void> run();

  /// Makes the present run() return at the end of its turn or, when none is under way, the next one before its first turn.
  /// Any thread.
  void stop() noexcept;

  /// Awaitable. `prepare(io_uring_sqe*)` fills one entry (with an io_uring_prep_ function; user_data is the loop's) when the
  /// turn ends; the await answers the kernel's int: a count, or a negative errno. -ECANCELED when the loop is being
  /// destroyed.
  template <class Prepare>
  [[nodiscard]] submission<Prepare> submit(Prepare prepare) noexcept {
    return submission<Prepare>(*this, std::move(prepare));
  }

  /// Requests awaited and not yet answered.
  std::size_t under_way() const noexcept { return under_way_; }

 private:
  friend class request;
  using requests = boost::intrusive::list<request, boost::intrusive::constant_time_size<false>>;

  uring_loop(const io_uring& ring, int wake_fd) noexcept : ring_(ring), wake_fd_(wake_fd) {}

  void wake() noexcept override;
  int enable() noexcept;

  int turn() noexcept;
  void arm_wake() noexcept;
  void hand_over() noexcept;
  io_uring_sqe* free_entry() noexcept;
  int enter() noexcept;
  int wait_at_most(clock::duration longest) noexcept;
  clock::duration idle_for() const noexcept;

  void take_answers() noexcept;
  void take_answer(const io_uring_cqe& entry) noexcept;
  void resume_answered();

  void take_back(request& one) noexcept;
  void take_back_all() noexcept;
  template <class Cancel, class Gone>
  void cancel_until(Cancel cancel, Gone gone) noexcept;
  void release(request& one) noexcept;

  io_uring ring_;
  int wake_fd_;                   ///< an eventfd; one read of it is always in the ring
  std::uint64_t wake_count_ = 0;  ///< where that read puts its eight bytes; its address is that request's name
  bool wake_armed_ = false;
  bool enabled_ = false;
  bool closed_ = false;  ///< the gate: the destructor has begun, requests are refused
  std::thread::id bound_to_;
  std::atomic<bool> stop_asked_{false};

  requests backlog_;   ///< awaited; the kernel does not know of them yet
  requests kernel_;    ///< the kernel's
  requests answered_;  ///< to be resumed
  std::size_t under_way_ = 0;
};

inline bool request::refused() const noexcept { return owner_->closed_; }

/// Why io_uring_setup failed and what mends it. `disabled` is kernel.io_uring_disabled (-1: no such sysctl), `group` is
/// kernel.io_uring_group (-1: none).
std::string cause_of_no_ring(int errno_value, int disabled, long group);

}  // namespace tidemark::ring
