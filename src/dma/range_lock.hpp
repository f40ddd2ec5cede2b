// SPDX-License-Identifier: Apache-2.0
//
// Order for requests on ranges: overlapping ones take their turn in the order they came, disjoint ones do not wait for each other.
//
//   auto held = co_await ranges.lock(range);   // immediate, without suspending, when nothing overlaps
//
// Invariants
//  1. No two overlapping ranges are held at once.
//  2. A range is granted only when no earlier one, held or waiting, overlaps it.
//
// Threading: one executor; the lock outlives what it handed out.

#pragma once

#include <tidemark/error.hpp>

#include <coroutine>
#include <list>
#include <utility>
#include <vector>

namespace tidemark::dma {

/// Whether two ranges share a byte. A range never wraps.
constexpr bool overlap(const iova_range& a, const iova_range& b) noexcept {
  if (a.size == 0 || b.size == 0) return false;
  return a.iova <= b.iova + (b.size - 1) && b.iova <= a.iova + (a.size - 1);
}

class range_lock {
  struct entry {
    iova_range range;
    std::coroutine_handle<> waiting;  // null once granted
  };
  using entries = std::list<entry>;

 public:
  class [[nodiscard]] hold {
   public:
    hold(range_lock& owner, entries::iterator place) noexcept : owner_(&owner), place_(place) {}
    hold(hold&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), place_(other.place_) {}
    hold& operator=(hold&&) = delete;
    ~hold() {
      if (owner_) owner_->release(place_);
    }

   private:
    range_lock* owner_;
    entries::iterator place_;
  };

  auto lock(iova_range range) {
    struct awaiter {
      range_lock& owner;
      entries::iterator place;
      bool await_ready() const noexcept { return !owner.must_wait(place); }
      void await_suspend(std::coroutine_handle<> waiting) const noexcept { place->waiting = waiting; }
      hold await_resume() const noexcept { return {owner, place}; }
    };
    return awaiter{*this, entries_.insert(entries_.end(), entry{range, nullptr})};
  }

  bool empty() const noexcept { return entries_.empty(); }

 private:
  bool must_wait(entries::const_iterator place) const noexcept {
    for (auto earlier = entries_.begin(); earlier != place; ++earlier)
      if (overlap(earlier->range, place->range)) return true;
    return false;
  }

  void release(entries::iterator place) {
    const iova_range freed = place->range;
    entries_.erase(place);
    std::vector<std::coroutine_handle<>> granted;
    for (auto at = entries_.begin(); at != entries_.end(); ++at)
      if (at->waiting && overlap(at->range, freed) && !must_wait(at)) granted.push_back(std::exchange(at->waiting, nullptr));
    for (auto waiting : granted) waiting.resume();
  }

  entries entries_;
};

}  // namespace tidemark::dma
