// SPDX-License-Identifier: Apache-2.0
//
// How Tidemark's asynchronous operations are made: a completion token goes in, one type-erased handler of one result comes
// out. Nothing here depends on which I/O backend the program built its Asio with.

#pragma once

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <tidemark/error.hpp>

#include <type_traits>
#include <utility>

namespace tidemark {

using boost::asio::any_io_executor;

/// The handler of an operation that completes with a result<T>.
template <class T>
using completion = boost::asio::any_completion_handler<void(result<T>)>;

namespace detail {

/// Makes an operation of `(self->*start)(handler, arguments...)`. Arguments are copied, for tokens that start later. `Token`
/// is named by the caller, with its reference: Asio moves from a token that is not one.
template <class Token, class T, class Object, class... Parameters, class... Arguments>
auto initiate(Object* self, std::remove_reference_t<Token>& token, void (Object::*start)(completion<T>, Parameters...),
              Arguments&&... arguments) {
  return boost::asio::async_initiate<Token, void(result<T>)>(
      [self, start](auto&& handler, auto... values) {
        (self->*start)(completion<T>(std::forward<decltype(handler)>(handler)), std::move(values)...);
      },
      token, std::forward<Arguments>(arguments)...);
}

}  // namespace detail

}  // namespace tidemark
