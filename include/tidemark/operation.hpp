// SPDX-License-Identifier: Apache-2.0
//
// How Tidemark's asynchronous operations are made: a completion token goes in, one type-erased handler of one result comes
// out. Nothing here depends on which I/O backend the program built its Asio with.

#pragma once

#include <boost/asio/any_completion_executor.hpp>
#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_allocator.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/bind_allocator.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/prefer.hpp>
#include <tidemark/error.hpp>
#include <tidemark/memory.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace tidemark {

using boost::asio::any_io_executor;

/// The handler of an operation that completes with a result<T>.
template <class T>
using completion = boost::asio::any_completion_handler<void(result<T>)>;

namespace detail {

/// An operation under way, in one piece of memory: its handler without its type, where that is to be called, and room for
/// what the library keeps of the operation.
template <class T>
class pending {
 public:
  static constexpr std::size_t room_bytes = 160;

  pending(const pending&) = delete;

  /// Ends this, and gives its memory back, then calls the handler. `outcome` is no part of this.
  virtual void complete(result<T>&& outcome) = 0;
  /// Ends this; the handler is not called.
  virtual void drop() noexcept = 0;

  alignas(std::max_align_t) std::byte room[room_bytes];
  /// The handler's own executor, which has work until then; null: it has none, or that of the object that it was given to.
  /// (Found out before the handler loses its type, for afterwards it costs an allocation.)
  std::unique_ptr<boost::asio::any_completion_executor> elsewhere;
  boost::asio::cancellation_slot slot;  ///< the handler's

 protected:
  pending() = default;
  ~pending() = default;
};

struct drop {
  template <class T>
  void operator()(pending<T>* what) const noexcept {
    what->drop();
  }
};

}  // namespace detail

/// A handler that is to be called where it wants to be.
template <class T>
using placed_completion = std::unique_ptr<detail::pending<T>, detail::drop>;

namespace detail {

template <class Handler>
constexpr bool has_no_allocator = std::is_same_v<boost::asio::associated_allocator_t<Handler>, std::allocator<void>>;

/// In memory of ours, unless the handler brings its own.
template <class T, class Handler>
completion<T> erased(Handler&& handler) {
  if constexpr (has_no_allocator<std::decay_t<Handler>>) {
    return completion<T>(boost::asio::bind_allocator(recycling_allocator<void>(), std::forward<Handler>(handler)));
  } else {
    return completion<T>(std::forward<Handler>(handler));
  }
}

/// In memory of ours, unless the handler brings its own. Handlers move without throwing, as Asio asks for.
template <class T, class Handler>
class pending_handler final : public pending<T> {
 public:
  static placed_completion<T> make(Handler handler) {
    auto memory = memory_of(handler);
    return placed_completion<T>(::new (memory.allocate(1)) pending_handler(std::move(handler)));
  }

  void complete(result<T>&& outcome) override {
    auto handler = std::move(handler_);
    end(memory_of(handler));
    std::move(handler)(std::move(outcome));
  }
  void drop() noexcept override { end(memory_of(handler_)); }

 private:
  using allocator = typename std::allocator_traits<
      std::conditional_t<has_no_allocator<Handler>, recycling_allocator<void>,
                         boost::asio::associated_allocator_t<Handler>>>::template rebind_alloc<pending_handler>;

  explicit pending_handler(Handler&& handler) : handler_(std::move(handler)) {
    this->slot = boost::asio::get_associated_cancellation_slot(handler_);
  }

  static allocator memory_of(const Handler& handler) noexcept {
    if constexpr (has_no_allocator<Handler>) {
      return {};
    } else {
      return allocator(boost::asio::get_associated_allocator(handler));
    }
  }

  void end(allocator memory) noexcept {
    this->~pending_handler();
    memory.deallocate(this, 1);
  }

  Handler handler_;
};

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
  using made = pending_handler<T, std::decay_t<Handler>>;
  if constexpr (names_no_executor<std::decay_t<Handler>>) return made::make(std::forward<Handler>(handler));
  std::unique_ptr<asio::any_completion_executor> elsewhere;
  if (const auto own = asio::get_associated_executor(handler, usual); !is_same(own, usual))
    elsewhere =
        std::make_unique<asio::any_completion_executor>(asio::prefer(own, asio::execution::outstanding_work.tracked));
  auto done = made::make(std::forward<Handler>(handler));
  done->elsewhere = std::move(elsewhere);
  return done;
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
