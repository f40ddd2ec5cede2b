// SPDX-License-Identifier: Apache-2.0
//
// Order for requests on ranges: overlapping ones take their turn in the order they came, disjoint ones do not wait for each
// other.
//
//   auto held = co_await ranges.lock(range);   // immediate, without suspending, when nothing overlaps
//
// Invariants
//  1. No two overlapping ranges are held at once.
//  2. A range is granted only when no earlier one, held or waiting, overlaps it.
//  3. However many are granted one after the other, the stack does not grow with them.
//
// Cost: a lookup among the held; a walk over those that wait, which are few unless one range is waited for by many.
//
// Threading: one executor; the lock outlives what it handed out. A range never wraps.

#pragma once

#include <tidemark/error.hpp>

#include <coroutine>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <utility>

namespace tidemark::dma {

/// Whether two ranges share a byte. A range never wraps.
constexpr bool overlap(const iova_range& a, const iova_range& b) noexcept {
  if (a.size == 0 || b.size == 0) return false;
  return a.iova <= b.iova + (b.size - 1) && b.iova <= a.iova + (a.size - 1);
}

class range_lock {
  using held_ranges = std::map<std::uint64_t, iova_range>;  // by IOVA; empty ranges are never among them

 public:
  class [[nodiscard]] hold {
   public:
    hold(range_lock& owner, iova_range range) noexcept : owner_(&owner), range_(range) {}
    hold(hold&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), range_(other.range_) {}
    hold& operator=(hold&&) = delete;
    ~hold() {
      if (owner_) owner_->release(range_);
    }

   private:
    range_lock* owner_;
    iova_range range_;
  };

  auto lock(iova_range range) {
    struct awaiter {
      range_lock& owner;
      iova_range range;
      bool await_ready() const { return owner.granted_at_once(range); }
      void await_suspend(std::coroutine_handle<> waiting) const { owner.waiting_.push_back({range, waiting}); }
      hold await_resume() const noexcept { return {owner, range}; }
    };
    return awaiter{*this, range};
  }

  bool empty() const noexcept { return held_.empty() && waiting_.empty(); }

 private:
  struct entry {
    iova_range range;
    std::coroutine_handle<> waiting;
  };
  using entries = std::list<entry>;

  bool granted_at_once(iova_range range) {
    if (must_wait(range, waiting_.end())) return false;
    take(range);
    return true;
  }

  void take(iova_range range) {
    if (range.size != 0) held_.emplace(range.iova, range);
  }

  bool is_held(const iova_range& range) const {
    if (range.size == 0) return false;
    const auto after = held_.upper_bound(range.iova + (range.size - 1));
    return after != held_.begin() && overlap(std::prev(after)->second, range);
  }

  /// Whether a range held, or one that waits before `place`, overlaps it.
  bool must_wait(const iova_range& range, entries::const_iterator place) const {
    if (is_held(range)) return true;
    for (auto earlier = waiting_.begin(); earlier != place; ++earlier)
      if (overlap(earlier->range, range)) return true;
    return false;
  }

  void release(iova_range freed) {
    if (freed.size == 0) return;
    held_.erase(freed.iova);
    grant_within(freed);
    if (std::exchange(resuming_, true)) return;  // the loop below, further up the stack, comes to them
    while (!granted_.empty()) {
      const auto next = granted_.front();
      granted_.pop_front();
      next.resume();
    }
    resuming_ = false;
  }

  /// Grants what waited for `freed` and for nothing else.
  void grant_within(iova_range freed) {
    for (auto at = waiting_.begin(); at != waiting_.end();) {
      const auto range = at->range;
      if (!overlap(range, freed) || must_wait(range, at)) {
        ++at;
        continue;
      }
      take(range);
      granted_.push_back(at->waiting);
      at = waiting_.erase(at);
      const bool all_taken = range.iova <= freed.iova && range.iova + (range.size - 1) >= freed.iova + (freed.size - 1);
      if (all_taken) return;
    }
  }

  held_ranges held_;
  entries waiting_;                              // in the order they came
  std::deque<std::coroutine_handle<>> granted_;  // to be resumed
  bool resuming_ = false;
};

}  // namespace tidemark::dma
