// SPDX-License-Identifier: Apache-2.0
//
// Random batches of changes, which know roughly what is mapped. Threading: values.

#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "dma/planner_reference.hpp"

namespace tidemark::dma::planning {

// ---- Batches ----

class author {
 public:
  author(std::mt19937_64& engine, const ground& where) : engine_(engine), where_(where) {
    for (auto& one : units_) one = below(3) == 0 ? 0 : std::uint64_t(where.page()) << std::min<std::uint64_t>(below(6), 5);
  }

  std::vector<change> batch(const reference& now) {
    for (std::size_t i = 0; i < pages; ++i) taken_[i] = now.cells()[i].thing;
    const auto count = below(4) == 0 ? 1 + below(3) : 1 + below(40);
    const auto transactions = below(3);  // none, some, only those
    kinds_ = below(4) == 0 ? 1 + below(2) : 0;
    std::vector<change> all;
    std::uint32_t number = 0;
    while (all.size() < count) {
      if (below(3) == 0)
        number = transactions == 0 || (transactions == 1 && below(2) == 0) ? 0 : std::uint32_t(1 + below(3));
      all.push_back(one(all));
      all.back().transaction = number;
    }
    return all;
  }

 private:
  std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }

  change one(const std::vector<change>& before) {
    if (below(100) == 0) return malformed();
    if (kinds_ == 1) return map();
    if (kinds_ == 2) return unmap(before);
    if (below(60) == 0) return {.what = kind::unmap_everything};
    return below(2) == 0 ? unmap(before) : map();
  }

  change map() {
    auto count = below(8) == 0 ? 1 + below(pages) : 1 + below(4);
    if (below(8) != 0) cursor_ = free_from(cursor_);
    if (below(12) != 0)  // most fit
      for (std::size_t i = 1; i < count; ++i)
        if (cursor_ + i >= pages || taken_[cursor_ + i] >= 0) count = i;
    count = std::min<std::uint64_t>(count, pages - cursor_);
    change made{.at = where_.at(cursor_, count)};
    made.host = pointer_to(host_of(cursor_));
    made.writable = below(12) != 0;
    made.unit = kinds_ == 1 ? 0 : units_[below(10) == 0 ? 1 : 0];
    for (std::size_t i = 0; i < count; ++i)
      taken_[cursor_ + i] = 1'000'000 + static_cast<int>(made.at.iova / where_.page() % 4096);
    if (below(5) == 0)
      cursor_ = below(pages);
    else
      cursor_ = below(4) == 0 ? (cursor_ + pages - count) % pages : (cursor_ + count) % pages;
    return made;
  }

  std::size_t free_from(std::size_t at) const {
    for (std::size_t i = 0; i < pages; ++i)
      if (taken_[(at + i) % pages] < 0) return (at + i) % pages;
    return at;
  }

  /// Mostly one memory behind all of it, so that neighbours in IOVA are neighbours there.
  std::uint64_t host_of(std::size_t page) {
    const auto shift = below(10) == 0 ? below(4) : 0;
    const auto first =
        where_.page() > (1ULL << 40) ? 0 : (0x7ULL << 44) + where_.base % (1ULL << 30) + skew_ * where_.page();
    return first + (page + shift) * where_.page();
  }

  change unmap(const std::vector<change>& before) {
    static std::uint64_t bits = 0;
    change made{.what = kind::unmap, .at = range_to_unmap(before)};
    if (below(6) == 0 && kinds_ != 2) made.dirty = {&bits, 1};
    for (std::size_t i = 0; i < pages; ++i)
      if (made.at.size != 0 && covers(made.at, where_.page_at(i))) taken_[i] = -1;
    return made;
  }

  iova_range range_to_unmap(const std::vector<change>& before) {
    switch (below(12)) {
      case 0:
        return any_range();
      case 1:
      case 2:
      case 3:
        if (!before.empty() && before[before.size() - 1 - below(std::min<std::size_t>(before.size(), 6))].at.size != 0)
          return sound(before[before.size() - 1 - below(std::min<std::size_t>(before.size(), 6))].at);
        return any_range();
      case 4:
      case 5:
        return unit_around(cursor_);
      case 6:
        return below(8) == 0 ? iova_range{0, 0 - where_.page()} : runs(1 + below(4));
      default:
        return runs(1 + below(2));
    }
  }

  iova_range sound(const iova_range& range) {
    return range.size == 0 || range.iova % where_.page() != 0 || range.size % where_.page() != 0 ? any_range() : range;
  }
  iova_range any_range() {
    const auto from = below(pages);
    return where_.at(from, 1 + below(std::min<std::uint64_t>(pages - from, 12)));
  }

  /// Some of what is mapped as one each, one after the other.
  iova_range runs(std::uint64_t count) {
    auto from = last_end_ != 0 && below(2) == 0 ? last_end_ % pages : below(pages);
    while (from > 0 && taken_[from] >= 0 && taken_[from - 1] == taken_[from]) --from;
    auto to = from;
    for (std::uint64_t i = 0; i < count && to < pages; ++i) {
      const auto what = taken_[to];
      while (to < pages && taken_[to] == what) ++to;
    }
    if (taken_[from] < 0 && count == 1) to = std::min<std::size_t>(to, from + 2);
    last_end_ = to;
    return where_.at(from, to - from);
  }

  iova_range unit_around(std::size_t page) {
    const auto unit = std::max(units_[0], where_.page());
    return {where_.page_at(page).iova & ~(unit - 1), unit};
  }

  change malformed() {
    auto made = map();
    if (below(3) == 0) made.what = kind::unmap;
    switch (below(5)) {
      case 0:
        made.at.iova += 512;
        return made;
      case 1:
        made.at.size -= 512;
        return made;
      case 2:
        made.at.size = 0;
        return made;
      case 3:
        made.host = pointer_to(address_of(made.host) + 512);
        return made;
      default:
        made.at.size = 0 - where_.page();  // wraps, unless it begins at 0 or 1
        if (made.at.iova < 2 * where_.page()) made.what = kind::unmap;
        return made;
    }
  }

  std::mt19937_64& engine_;
  const ground& where_;
  std::array<std::uint64_t, 2> units_{};
  std::uint64_t kinds_ = 0;         // of the batch: 1, only maps that stand alone; 2, only unmaps
  std::array<int, pages> taken_{};  // roughly: what is mapped as one
  std::uint64_t skew_ = engine_() % 3 == 0 ? engine_() % 5 : 0;
  std::size_t cursor_ = 0;
  std::size_t last_end_ = 0;
};

}  // namespace tidemark::dma::planning
