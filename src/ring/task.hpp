// SPDX-License-Identifier: Apache-2.0
//
// task<T>: a lazy coroutine with one awaiter. It knows nothing of loops or threads: it goes on wherever what it awaited
// resumed it.
//
// Invariants
//  1. A task does not run before it is awaited (or given to start()).
//  2. It is awaited at most once; destroying an unawaited task destroys its frame.
//  3. Awaiting costs no stack: control moves by symmetric transfer.
//
// Threading: a task belongs to the thread (or executor) that resumes it; nothing here is synchronised.

#pragma once

#include <coroutine>
#include <cstddef>
#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

namespace tidemark::ring {

template <class T = void>
class task;

namespace detail {

class task_promise_base {
 public:
  std::suspend_always initial_suspend() noexcept { return {}; }
  auto final_suspend() noexcept { return resume_awaiter{}; }
  void unhandled_exception() noexcept { failure_ = std::current_exception(); }
  void set_awaiter(std::coroutine_handle<> awaiter) noexcept { awaiter_ = awaiter; }

 protected:
  void rethrow_failure() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  struct resume_awaiter {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> done) noexcept {
      return done.promise().awaiter_;
    }
    void await_resume() noexcept {}
  };

  std::coroutine_handle<> awaiter_ = std::noop_coroutine();
  std::exception_ptr failure_;
};

template <class T>
class task_promise final : public task_promise_base {
 public:
  task<T> get_return_object() noexcept;
  template <class U = T>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T take() {
    rethrow_failure();
    return std::move(*value_);
  }

 private:
  std::optional<T> value_;
};

template <>
class task_promise<void> final : public task_promise_base {
 public:
  task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void take() { rethrow_failure(); }
};

}  // namespace detail

template <class T>
class [[nodiscard]] task {
 public:
  using promise_type = detail::task_promise<T>;

  explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
  task(task&& other) noexcept : frame_(std::exchange(other.frame_, nullptr)) {}
  task& operator=(task&& other) noexcept {
    std::swap(frame_, other.frame_);
    return *this;
  }
  ~task() {
    if (frame_) frame_.destroy();
  }

  auto operator co_await() && noexcept {
    struct awaiter {
      std::coroutine_handle<promise_type> frame;
      bool await_ready() noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiting) noexcept {
        frame.promise().set_awaiter(waiting);
        return frame;
      }
      T await_resume() { return frame.promise().take(); }
    };
    return awaiter{frame_};
  }

 private:
  std::coroutine_handle<promise_type> frame_;
};

namespace detail {

template <class T>
task<T> task_promise<T>::get_return_object() noexcept {
  return task<T>{std::coroutine_handle<task_promise>::from_promise(*this)};
}
inline task<void> task_promise<void>::get_return_object() noexcept {
  return task<void>{std::coroutine_handle<task_promise>::from_promise(*this)};
}

/// A coroutine nobody awaits: it runs at once and frees itself. An exception that leaves it ends the program, as one that
/// leaves a thread does; our coroutines answer with results and let only std::bad_alloc pass.
struct detached {
  struct promise_type {
    detached get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};

}  // namespace detail

/// Runs `work` on this thread until it first suspends; it goes on by itself from there.
template <class T>
void start(task<T> work) {
  [](task<T> owned) -> detail::detached { co_await std::move(owned); }(std::move(work));
}

/// Waits until `count_down` was called as often as the count it was made with. One waiter, same thread as those who count.
class latch {
 public:
  explicit latch(std::size_t count) noexcept : count_(count) {}
  latch(const latch&) = delete;
  latch& operator=(const latch&) = delete;

  void count_down() noexcept {
    if (--count_ == 0 && waiting_) std::exchange(waiting_, nullptr).resume();
  }

  // The latch is not its own awaiter: g++ 12 awaits a copy of an awaiter that a lambda captured by reference, and nobody
  // counts the copy.
  auto operator co_await() noexcept {
    struct awaiter {
      latch& self;
      bool await_ready() const noexcept { return self.count_ == 0; }
      void await_suspend(std::coroutine_handle<> waiting) noexcept { self.waiting_ = waiting; }
      void await_resume() const noexcept {}
    };
    return awaiter{*this};
  }

 private:
  std::size_t count_;
  std::coroutine_handle<> waiting_;
};

}  // namespace tidemark::ring
