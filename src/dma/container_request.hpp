// SPDX-License-Identifier: Apache-2.0
//
// The requests of a container's lane. Changes of the mappings are data, for the planner to read; all others are calls.
//
// Threading: made by the caller, carried out by who is in the lane, completed on the executor.

#pragma once

#include <tidemark/memory.hpp>
#include <tidemark/operation.hpp>

#include <boost/asio/dispatch.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "backend/container_file.hpp"
#include "dma/lane.hpp"
#include "dma/mapping_book.hpp"
#include "dma/planner.hpp"

namespace tidemark::dma {

/// What a call may work with.
struct lane_place {
  backend::container_file& file;
  mapping_book& book;
  const std::atomic<bool>& closing;
  std::vector<std::uint64_t>& scratch;  ///< for bitmaps, whose memory is kept from one call to the next
};

class container_request : public lane::request {
 public:
  /// `range`: what it is about. An empty one: everything, so that nothing overtakes it.
  explicit container_request(iova_range range, bool is_change = false) noexcept : range_(range), is_change_(is_change) {}

  static void* operator new(std::size_t bytes) { return detail::take_memory(bytes); }
  static void operator delete(void* memory, std::size_t bytes) noexcept { detail::give_memory(memory, bytes); }

  iova_range range() const noexcept { return range_; }
  bool is_barrier() const noexcept { return range_.size == 0; }

  /// Whether it is a change_request; else it is a call.
  bool is_change() const noexcept { return is_change_; }
  virtual void call(const lane_place&) {}

 private:
  iova_range range_;
  bool is_change_;
};

/// One change of the mappings, or several of which all are carried out or none.
class change_request : public container_request {
 public:
  explicit change_request(iova_range range) noexcept : container_request(range, true) {}

  /// Their transaction is 1 where there are several.
  std::span<const change> changes() const noexcept { return changes_; }

  void succeed(std::uint64_t bytes) noexcept { bytes_ = bytes; }
  void fail(std::unique_ptr<error> why) noexcept { failure_ = std::move(why); }

 protected:
  std::span<const change> changes_{};  // which the derived class has
  std::unique_ptr<error> failure_;     // errors are large and rare
  std::uint64_t bytes_ = 0;
};

/// Calls a handler where it is to be called, once.
template <class T>
class finish {
 public:
  explicit finish(placed_completion<T>&& done) noexcept : done_(std::move(done)) {}

  auto slot() const noexcept { return done_->slot; }
  /// Whoever asked, if nobody has answered him; without him this is good for nothing.
  placed_completion<T> take() noexcept { return std::move(done_); }

  // The slot belongs to the handler's executor: a signal may come there up to the moment the handler is called, and finds
  // the request, which is `self`. Called on the container's executor.
  void operator()(std::unique_ptr<lane::request>&& self, result<T>&& outcome) {
    if (!done_->elsewhere) return call(std::move(self), std::move(outcome));
    const auto where = *done_->elsewhere;
    boost::asio::dispatch(where, [this, self = std::move(self), outcome = std::move(outcome)]() mutable {
      call(std::move(self), std::move(outcome));
    });
  }

 private:
  /// `outcome` is no part of `self`.
  void call(std::unique_ptr<lane::request>&& self, result<T>&& outcome) {
    if (auto connected = slot(); connected.is_connected()) connected.clear();
    auto done = take();
    self.reset();  // and with it this: its memory is free before the handler asks for more
    done.release()->complete(std::move(outcome));
  }

  placed_completion<T> done_;
};

/// A call with its handler. `Call` is what to do: result<T>(const lane_place&).
template <class T, class Call>
class call_request final : public container_request {
 public:
  call_request(operation what, iova_range range, Call call, placed_completion<T>&& done)
      : container_request(range), call_(std::move(call)), finish_(std::move(done)), what_(what) {}

  void call(const lane_place& in) override { outcome_.emplace(call_(in)); }
  void refuse(boost::system::error_code code) noexcept override {
    outcome_.emplace(error{code, what_, range(), {}, "nothing was changed"});
  }
  void complete(std::unique_ptr<request>&& self) override {
    auto outcome = std::move(*outcome_);
    finish_(std::move(self), std::move(outcome));
  }
  auto slot() const noexcept { return finish_.slot(); }

 private:
  Call call_;
  finish<T> finish_;
  operation what_;
  std::optional<result<T>> outcome_;
};

/// What all changes of one operation have in common. T is void or, for an unmap, the bytes.
template <class T>
class bound_change : public change_request {
 public:
  bound_change(operation what, iova_range range, placed_completion<T>&& done)
      : change_request(range), finish_(std::move(done)), what_(what) {}

  void refuse(boost::system::error_code code) noexcept override {
    failure_ = std::make_unique<error>(error{code, what_, range(), {}, "nothing was changed"});
  }
  void complete(std::unique_ptr<request>&& self) override {
    auto failure = std::move(failure_);
    if (failure) return finish_(std::move(self), std::move(*failure));
    if constexpr (std::is_void_v<T>) {
      finish_(std::move(self), result<void>{});
    } else {
      finish_(std::move(self), bytes_);
    }
  }
  auto slot() const noexcept { return finish_.slot(); }

 protected:
  placed_completion<T> take_handler() noexcept { return finish_.take(); }

 private:
  finish<T> finish_;
  operation what_;
};

/// In the room of its operation, so that it needs no memory of its own.
template <class T>
class single_change final : public bound_change<T> {
 public:
  static std::unique_ptr<single_change> make(const change& asked, placed_completion<T>&& done) {
    static_assert(sizeof(single_change) <= detail::pending<T>::room_bytes);
    return std::unique_ptr<single_change>(::new (&done->room) single_change(asked, std::move(done)));
  }

  /// Its memory is that of the operation, which goes with it if it is still there.
  static void operator delete(single_change* self, std::destroying_delete_t) noexcept {
    const auto done = self->take_handler();
    self->~single_change();
  }

 private:
  single_change(const change& asked, placed_completion<T>&& done)
      : bound_change<T>(asked.what == change::kind::map ? operation::map : operation::unmap, asked.at, std::move(done)),
        asked_(asked) {
    this->changes_ = {&asked_, 1};
  }

  change asked_;
};

class transaction final : public bound_change<void> {
 public:
  transaction(std::vector<change> asked, placed_completion<void>&& done)
      : bound_change(operation::map, {}, std::move(done)), asked_(std::move(asked)) {
    for (auto& one : asked_) one.transaction = 1;
    changes_ = asked_;
  }

 private:
  std::vector<change> asked_;
};

}  // namespace tidemark::dma
