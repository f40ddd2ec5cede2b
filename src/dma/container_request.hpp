// SPDX-License-Identifier: Apache-2.0
//
// The requests of a container's lane. Changes of the mappings are data, for the planner to read; all others are calls.
//
// Threading: made by the caller, carried out by who is in the lane, completed on the executor.

#pragma once

#include <tidemark/operation.hpp>

#include <boost/asio/any_completion_executor.hpp>
#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/execution/outstanding_work.hpp>
#include <boost/asio/prefer.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "backend/container_file.hpp"
#include "dma/lane.hpp"
#include "dma/planner.hpp"

namespace tidemark::dma {

using boost::asio::any_completion_executor;

class change_request;

class container_request : public lane::request {
 public:
  /// `range`: what it is about. An empty one: everything, so that nothing overtakes it.
  explicit container_request(iova_range range) noexcept : range_(range) {}

  iova_range range() const noexcept { return range_; }
  bool is_barrier() const noexcept { return range_.size == 0; }

  /// As the change it is, if it is one; else it is a call.
  virtual change_request* as_change() noexcept { return nullptr; }
  virtual bool is_change() const noexcept { return false; }
  virtual void call(backend::container_file&) {}

 private:
  iova_range range_;
};

/// One change of the mappings, or several of which all are carried out or none.
class change_request : public container_request {
 public:
  explicit change_request(iova_range range) noexcept : container_request(range) {}

  change_request* as_change() noexcept final { return this; }
  bool is_change() const noexcept final { return true; }
  virtual std::span<const change> changes() const noexcept = 0;
  /// Of an unmap: where its dirty pages go; empty: nobody wants to know.
  virtual std::span<std::uint64_t> dirty() const noexcept { return {}; }
  /// Of several changes the last word counts, and a failure is the last word.
  virtual void succeed(std::uint64_t bytes) = 0;
  virtual void fail(error why) = 0;
};

/// Calls a handler where it wants to be called, once. Until then its executor has work to do.
template <class T>
class finish {
 public:
  finish(const any_completion_executor& executor, completion<T> handler) : handler_(std::move(handler)) {
    auto own = boost::asio::get_associated_executor(handler_, executor);
    if (own != executor) elsewhere_ = boost::asio::prefer(std::move(own), boost::asio::execution::outstanding_work.tracked);
  }

  auto slot() const noexcept { return boost::asio::get_associated_cancellation_slot(handler_); }

  // The slot belongs to the handler's executor: a signal may come there up to the moment the handler is called, and finds
  // the request, which is `self`. Called on the container's executor.
  void operator()(std::unique_ptr<lane::request> self, result<T> outcome) {
    if (!elsewhere_) return call(std::move(self), std::move(outcome));
    const auto where = elsewhere_;
    boost::asio::dispatch(where, [this, self = std::move(self), outcome = std::move(outcome)]() mutable {
      call(std::move(self), std::move(outcome));
    });
  }

 private:
  void call(std::unique_ptr<lane::request> self, result<T> outcome) {
    if (auto connected = slot(); connected.is_connected()) connected.clear();
    auto handler = std::move(handler_);
    self.reset();  // and with it this: its memory is free before the handler asks for more
    std::move(handler)(std::move(outcome));
  }

  completion<T> handler_;
  any_completion_executor elsewhere_;  // the handler's executor, where it is not the container's
};

/// A call with its handler. `Call` is what to do: result<T>(backend::container_file&).
template <class T, class Call>
class call_request final : public container_request {
 public:
  call_request(const any_completion_executor& executor, operation what, iova_range range, Call call, completion<T> handler)
      : container_request(range), call_(std::move(call)), finish_(executor, std::move(handler)), what_(what) {}

  void call(backend::container_file& file) override { outcome_.emplace(call_(file)); }
  void refuse(boost::system::error_code code) noexcept override {
    outcome_.emplace(error{code, what_, range(), {}, "nothing was changed"});
  }
  void complete(std::unique_ptr<request> self) override {
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
  bound_change(const any_completion_executor& executor, operation what, iova_range range, completion<T> handler)
      : change_request(range), finish_(executor, std::move(handler)), what_(what) {}

  void succeed(std::uint64_t bytes) override { bytes_ += bytes; }
  void fail(error why) override {
    if (!failure_) failure_ = std::make_unique<error>(std::move(why));
  }
  void refuse(boost::system::error_code code) noexcept override {
    failure_ = std::make_unique<error>(error{code, what_, range(), {}, "nothing was changed"});
  }
  void complete(std::unique_ptr<request> self) override {
    auto failure = std::move(failure_);
    if (failure) return finish_(std::move(self), std::move(*failure));
    if constexpr (std::is_void_v<T>) {
      finish_(std::move(self), result<void>{});
    } else {
      finish_(std::move(self), bytes_);
    }
  }
  auto slot() const noexcept { return finish_.slot(); }

 private:
  finish<T> finish_;
  std::unique_ptr<error> failure_;  // errors are large and rare
  std::uint64_t bytes_ = 0;
  operation what_;
};

template <class T>
class single_change final : public bound_change<T> {
 public:
  single_change(const any_completion_executor& executor, const change& asked, std::span<std::uint64_t> dirty,
                completion<T> handler)
      : bound_change<T>(executor, asked.what == change::kind::map ? operation::map : operation::unmap, asked.at,
                        std::move(handler)),
        asked_(asked),
        dirty_(dirty) {}

  std::span<const change> changes() const noexcept override { return {&asked_, 1}; }
  std::span<std::uint64_t> dirty() const noexcept override { return dirty_; }

 private:
  change asked_;
  std::span<std::uint64_t> dirty_;
};

class transaction final : public bound_change<void> {
 public:
  transaction(const any_completion_executor& executor, std::vector<change> asked, completion<void> handler)
      : bound_change(executor, operation::map, {}, std::move(handler)), asked_(std::move(asked)) {}

  std::span<const change> changes() const noexcept override { return asked_; }

 private:
  std::vector<change> asked_;
};

}  // namespace tidemark::dma
