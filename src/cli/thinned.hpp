// SPDX-License-Identifier: Apache-2.0
//
// Values that come in the order of their times, of which a bounded number is kept: when there are too many, they are thinned
// out evenly over time.
//
// Invariants
//  1. The first value and the newest are kept. There are never more than `most`.
//  2. Of every slot of time between them the first is kept; slots begin at multiples of a gap, which grows when there are
//  too many.
//
// Threading: one thread at a time.

#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace tidemark::cli {

template <class T>
class thinned {
 public:
  /// REQUIRES: most >= 4
  explicit thinned(std::size_t most) : most_(most) {}

  /// A time before the newest counts as the newest's.
  void add(std::chrono::nanoseconds at, T value) {
    if (!times_.empty()) at = std::max(at, times_.back());
    ++seen_;
    if (times_.size() >= 2 && same_slot(times_[times_.size() - 2], times_.back())) {
      times_.pop_back();
      values_.pop_back();
    }
    times_.push_back(at);
    values_.push_back(std::move(value));
    if (times_.size() > most_) thin();
  }

  const std::vector<T>& values() const noexcept { return values_; }
  /// With those that were dropped.
  std::uint64_t seen() const noexcept { return seen_; }

 private:
  bool same_slot(std::chrono::nanoseconds a, std::chrono::nanoseconds b) const noexcept {
    return gap_.count() != 0 && a / gap_ == b / gap_;
  }

  /// To half of `most` and the newest.
  void thin() {
    const auto span = times_.back() - times_.front();
    gap_ = std::max(2 * gap_, span / static_cast<std::int64_t>(most_ / 2) + std::chrono::nanoseconds(1));
    std::size_t kept = 1;
    for (std::size_t i = 1; i < times_.size(); ++i) {
      if (i + 1 != times_.size() && same_slot(times_[kept - 1], times_[i])) continue;
      times_[kept] = times_[i];
      if (kept != i) values_[kept] = std::move(values_[i]);
      ++kept;
    }
    times_.resize(kept);
    values_.erase(values_.begin() + static_cast<std::ptrdiff_t>(kept), values_.end());
  }

  std::size_t most_;
  std::chrono::nanoseconds gap_{};
  std::uint64_t seen_ = 0;
  std::vector<std::chrono::nanoseconds> times_;
  std::vector<T> values_;
};

}  // namespace tidemark::cli
