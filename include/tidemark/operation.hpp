// SPDX-License-Identifier: Apache-2.0
//
// How Tidemark's asynchronous operations are made: a completion token goes in, one type-erased handler of one result comes
// out. Nothing here depends on which I/O backend the program built its Asio with.

#pragma once

#include <boost/asio/any_completion_executor.hpp>
#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_allocator.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/prefer.hpp>
#include <tidemark/error.hpp>
#include <tidemark/memory.hpp>

#include <memory>
#include <type_traits>
#include <utility>

namespace tidemark {

using boost::asio::any_io_executor;

/// The handler of an operation that completes with a result<T>.
template <class T>
using completion = boost::asio::any_completion_handler<void(result<T>)>;

/// A handler, and where it is to be called.
template <class T>
struct placed_completion {
  completion<T> handler;
  /// Its own executor, which has work until then; null: it has none, or that of the object that it was given to. (Found out
  /// before the handler loses its type, for afterwards it costs an allocation.)
  std::unique_ptr<boost::asio::any_completion_executor> elsewhere;
};

namespace detail {

/// In memory of ours, unless the handler brings its own.
template <class T, class Handler>
completion<T> erased(Handler&& handler) {
  if constexpr (std::is_same_v<boost::asio::associated_allocator_t<std::decay_t<Handler>>, std::allocator<void>>) {
    return completion<T>(boost::asio::bind_allocator(recycling_allocator<void>(), std::forward<Handler>(handler)));
  } else {
    return completion<T>(std::forward<Handler>(handler));
  }
}

/// Asio's own mark of a handler that names no executor. Where Asio should lack it, executors are compared.
template <class Handler>
concept names_no_executor = requires {
  typename boost::asio::associated_executor<Handler, any_io_executor>::asio_associated_executor_is_unspecialised;
};

/// Not every executor can be an any_io_executor.
template <class Executor>
bool is_same(const Executor& own, const any_io_executor& usual) {
  using boost::asio::any_completion_executor;
  if constexpr (std::is_constructible_v<any_io_executor, const Executor&>) {
    return any_io_executor(own) == usual;
  } else {
    return any_completion_executor(own) == any_completion_executor(usual);
  }
}

template <class T, class Handler>
placed_completion<T> placed(Handler&& handler, const any_io_executor& usual) {
  namespace asio = boost::asio;
  if constexpr (names_no_executor<std::decay_t<Handler>>) return {erased<T>(std::forward<Handler>(handler)), nullptr};
  std::unique_ptr<asio::any_completion_executor> elsewhere;
  if (const auto own = asio::get_associated_executor(handler, usual); !is_same(own, usual))
    elsewhere =
        std::make_unique<asio::any_completion_executor>(asio::prefer(own, asio::execution::outstanding_work.tracked));
  return {erased<T>(std::forward<Handler>(handler)), std::move(elsewhere)};
}

/// Makes an operation of `(self->*start)(handler, arguments...)`. Arguments are copied, for tokens that start later. `Token`
/// is named by the caller, with its reference: Asio moves from a token that is not one.
template <class Token, class T, class Object, class... Parameters, class... Arguments>
auto initiate(Object* self, std::remove_reference_t<Token>& token, void (Object::*start)(completion<T>, Parameters...),
              Arguments&&... arguments) {
  return boost::asio::async_initiate<Token, void(result<T>)>(
      [self, start](auto&& handler, auto... values) {
        (self->*start)(erased<T>(std::forward<decltype(handler)>(handler)), std::move(values)...);
      },
      token, std::forward<Arguments>(arguments)...);
}
template <class Token, class T, class Object, class... Parameters, class... Arguments>
auto initiate(Object* self, std::remove_reference_t<Token>& token,
              void (Object::*start)(placed_completion<T>, Parameters...), Arguments&&... arguments) {
  return boost::asio::async_initiate<Token, void(result<T>)>(
      [self, start](auto&& handler, auto... values) {
        (self->*start)(placed<T>(std::forward<decltype(handler)>(handler), self->get_executor()), std::move(values)...);
      },
      token, std::forward<Arguments>(arguments)...);
}

}  // namespace detail

}  // namespace tidemark
