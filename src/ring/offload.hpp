// SPDX-License-Identifier: Apache-2.0
//
// Runs a call that takes long on a worker while the awaiting coroutine leaves its executor free.
//   auto sum = co_await offload(threads, executor, [&] { return checksum(block); });
// Threading: awaited on `back`, a single thread or strand, and resumed there. What the call uses belongs to it until then.

#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/post.hpp>
#include <tidemark/threads.hpp>

#include <coroutine>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace tidemark::ring {

template <class Call>
auto offload(workers& threads, boost::asio::any_io_executor back, Call call) {
  using value = std::invoke_result_t<Call&>;
  struct awaiter {
    workers& threads;
    boost::asio::any_io_executor back;
    Call call;
    std::unique_ptr<worker> hand{};
    std::optional<value> outcome{};

    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiting) {
      hand = threads.make("tidemark-work", [this, waiting] {
        outcome.emplace(call());
        boost::asio::post(back, [waiting] { waiting.resume(); });
      });
      hand->wake();
    }
    value await_resume() { return std::move(*outcome); }
  };
  return awaiter{threads, std::move(back), std::move(call)};
}

}  // namespace tidemark::ring
