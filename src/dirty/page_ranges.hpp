// SPDX-License-Identifier: Apache-2.0
//
// A set of pages as ranges: for what is large and in few pieces, as memory that a guest gave back. A terabyte comes and goes
// by a step in a tree, where a bitmap's would be 32 MiB.
//
// Invariant: ranges are not empty, and do not meet or touch.
//
// Threading: a value; not synchronised.

#pragma once

#include <absl/container/btree_map.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace tidemark::dirty {

class page_ranges {
 public:
  bool empty() const noexcept { return ends_.empty(); }
  void clear() noexcept { ends_.clear(); }

  void add(std::uint64_t first, std::uint64_t pages) {
    auto end = first + pages;
    auto at = ends_.upper_bound(first);
    if (at != ends_.begin() && std::prev(at)->second >= first) --at;
    for (; at != ends_.end() && at->first <= end; at = ends_.erase(at)) {
      first = std::min(first, at->first);
      end = std::max(end, at->second);
    }
    ends_.emplace(first, end);
  }

  void remove(std::uint64_t first, std::uint64_t pages) {
    const auto end = first + pages;
    auto at = ends_.upper_bound(first);
    if (at != ends_.begin() && std::prev(at)->second > first) --at;
    std::uint64_t before = first;  // where what is cut at the front begins, and what is cut at the back ends
    std::uint64_t behind = end;
    for (; at != ends_.end() && at->first < end; at = ends_.erase(at)) {
      before = std::min(before, at->first);
      behind = std::max(behind, at->second);
    }
    if (before < first) ends_.emplace(before, first);
    if (behind > end) ends_.emplace(end, behind);
  }

  /// Calls `work(first, pages)` for what of [first, first + pages) is in the set.
  template <class Work>
  void for_each_in(std::uint64_t first, std::uint64_t pages, Work work) const {
    const auto end = first + pages;
    auto at = ends_.upper_bound(first);
    if (at != ends_.begin() && std::prev(at)->second > first) --at;
    for (; at != ends_.end() && at->first < end; ++at) {
      const auto from = std::max(first, at->first);
      work(from, std::min(end, at->second) - from);
    }
  }

 private:
  absl::btree_map<std::uint64_t, std::uint64_t> ends_;  // by first page
};

}  // namespace tidemark::dirty
