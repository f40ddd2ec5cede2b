// SPDX-License-Identifier: Apache-2.0
//
// The Asio executor of a loop: lets Asio operations complete on it. A pointer and a flag; copy freely, any thread.

#pragma once

#include <boost/asio/execution/blocking.hpp>
#include <boost/asio/execution/context.hpp>

#include <utility>

#include "ring/loop.hpp"

namespace tidemark::ring {

class executor {
 public:
  explicit executor(loop& owner) noexcept : loop_(&owner) {}

  template <class Call>
  void execute(Call&& call) const {
    if (may_run_inside_ && loop_->in_loop()) {
      std::decay_t<Call> owned(std::forward<Call>(call));
      owned();
    } else {
      loop_->post(make_work(std::decay_t<Call>(std::forward<Call>(call))));
    }
  }

  boost::asio::execution_context& query(boost::asio::execution::context_t) const noexcept { return *loop_; }
  executor require(boost::asio::execution::blocking_t::never_t) const noexcept { return {*loop_, false}; }
  executor require(boost::asio::execution::blocking_t::possibly_t) const noexcept { return {*loop_, true}; }

  friend bool operator==(const executor& a, const executor& b) noexcept {
    return a.loop_ == b.loop_ && a.may_run_inside_ == b.may_run_inside_;
  }
  friend bool operator!=(const executor& a, const executor& b) noexcept { return !(a == b); }

 private:
  executor(loop& owner, bool may_run_inside) noexcept : loop_(&owner), may_run_inside_(may_run_inside) {}

  loop* loop_;
  bool may_run_inside_ = true;
};

inline executor loop::get_executor() noexcept { return executor{*this}; }

}  // namespace tidemark::ring
