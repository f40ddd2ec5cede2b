// SPDX-License-Identifier: Apache-2.0
//
// Where our coroutines and Asio's operations meet.
//
//   auto r = co_await container.async_map(m, resume_on(executor));  // an Asio operation awaited by a task
//   return spawn(executor, add(region), token);                     // a task handed out as an Asio operation
//
// Threading: an awaiting coroutine is resumed by the executor it names, and by nothing else.

#pragma once

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>

#include <coroutine>
#include <optional>
#include <tuple>
#include <utility>

#include "ring/task.hpp"

namespace tidemark::ring {

using boost::asio::any_io_executor;

/// A completion token: makes any Asio operation with one result awaitable by a task, which goes on in `where`.
struct resume_on {
  any_io_executor where;
};

namespace detail {

/// The awaiter of one operation. It lives in the awaiting frame, so the handler may point to it until it is called.
template <class Result, class Initiation, class... Arguments>
class operation_awaiter {
 public:
  operation_awaiter(any_io_executor where, Initiation initiation, Arguments... arguments)
      : where_(std::move(where)), initiation_(std::move(initiation)), arguments_(std::move(arguments)...) {}

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiting) {
    waiting_ = waiting;
    std::apply([this](auto&... arguments) { std::move(initiation_)(handler{this}, std::move(arguments)...); }, arguments_);
  }
  Result await_resume() { return std::move(*result_); }

 private:
  struct handler {
    using executor_type = any_io_executor;
    operation_awaiter* self;
    executor_type get_executor() const noexcept { return self->where_; }
    void operator()(Result result) const {
      self->result_.emplace(std::move(result));
      self->waiting_.resume();
    }
  };

  any_io_executor where_;
  Initiation initiation_;
  std::tuple<Arguments...> arguments_;
  std::optional<Result> result_;
  std::coroutine_handle<> waiting_;
};

}  // namespace detail

/// Calls `handler` on its own executor, `fallback` where it has none. Until then somebody counts as work of both.
template <class Handler, class Result>
void finish(any_io_executor fallback, Handler handler, Result result) {
  auto where = boost::asio::get_associated_executor(handler, fallback);
  boost::asio::dispatch(where, [handler = std::move(handler), result = std::move(result)]() mutable {
    std::move(handler)(std::move(result));
  });
}

/// Runs `work` at once on the caller's thread (which is `where`'s) and completes `handler` with its result, never inside
/// this call.
template <class Result>
void spawn(any_io_executor where, task<Result> work, boost::asio::any_completion_handler<void(Result)> handler) {
  namespace execution = boost::asio::execution;
  auto drive = [](any_io_executor at, task<Result> owned, boost::asio::any_completion_handler<void(Result)> done) -> task<> {
    auto busy = boost::asio::prefer(at, execution::outstanding_work.tracked);
    auto busy_handler =
        boost::asio::prefer(boost::asio::get_associated_executor(done, at), execution::outstanding_work.tracked);
    auto result = co_await std::move(owned);
    boost::asio::post(at, [busy = std::move(busy), busy_handler = std::move(busy_handler), done = std::move(done),
                           result = std::move(result)]() mutable { finish(busy, std::move(done), std::move(result)); });
  };
  start(drive(where, std::move(work), std::move(handler)));
}

/// Starts `work` on `where` from any thread; otherwise as spawn().
template <class Result>
void spawn_on(any_io_executor where, task<Result> work, boost::asio::any_completion_handler<void(Result)> handler) {
  boost::asio::post(where, [where, work = std::move(work), handler = std::move(handler)]() mutable {
    spawn(where, std::move(work), std::move(handler));
  });
}

/// Runs `work` on another executor; the awaiting task goes on in `back`.
template <class Result>
auto run_on(any_io_executor where, task<Result> work, resume_on back) {
  return boost::asio::async_initiate<resume_on, void(Result)>(
      [where](auto handler, task<Result> moved) {
        spawn_on(where, std::move(moved), boost::asio::any_completion_handler<void(Result)>(std::move(handler)));
      },
      back, std::move(work));
}

}  // namespace tidemark::ring

template <class Result>
class boost::asio::async_result<tidemark::ring::resume_on, void(Result)> {
 public:
  template <class Initiation, class... Arguments>
  static auto initiate(Initiation&& initiation, tidemark::ring::resume_on token, Arguments&&... arguments) {
    return tidemark::ring::detail::operation_awaiter<Result, std::decay_t<Initiation>, std::decay_t<Arguments>...>(
        std::move(token.where), std::forward<Initiation>(initiation), std::forward<Arguments>(arguments)...);
  }
};
