// SPDX-License-Identifier: Apache-2.0
//
// What can be said of changes by themselves, whatever is mapped. Pure.

#pragma once

#include <tidemark/error.hpp>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <iterator>
#include <span>

#include "dma/planner.hpp"

namespace tidemark::dma {

/// The last byte of a range that is not empty.
constexpr std::uint64_t last_of(const iova_range& range) noexcept { return range.iova + (range.size - 1); }

/// Whether it is whole pages, and not too far up.
inline bool is_sound(const change& what, std::uint64_t page_size) noexcept {
  const auto offset = what.at.iova | what.at.size;
  if (what.at.size == 0 || (offset & (page_size - 1)) != 0 || last_of(what.at) < what.at.iova) return false;
  if (what.what != change::kind::map) return true;
  const auto host = std::bit_cast<std::uintptr_t>(what.host);
  return (host & (page_size - 1)) == 0 && host + (what.at.size - 1) >= host;
}

/// Whether one window holds all of it (R21).
inline bool is_inside(const iova_range& range, std::span<const iova_range> windows) noexcept {
  if (windows.empty()) return true;
  const auto after = std::upper_bound(windows.begin(), windows.end(), range.iova,
                                      [](std::uint64_t iova, const iova_range& window) { return iova < window.iova; });
  return after != windows.begin() && last_of(range) <= last_of(*std::prev(after));
}

/// What is known of a map, or of several that became one.
struct map_shape {
  iova_range at;
  const std::byte* host;
  std::uint64_t unit;
  bool writable;
};

/// Whether two maps, the lower of which ends before the higher begins, can become one: not across the border of a unit, for
/// that is where a later unmap may begin (R19).
inline bool are_one(const map_shape& low, const map_shape& high, std::span<const iova_range> windows) noexcept {
  if (last_of(low.at) + 1 != high.at.iova || low.unit == 0 || low.unit != high.unit || low.writable != high.writable)
    return false;
  if (std::bit_cast<std::uintptr_t>(low.host) + low.at.size != std::bit_cast<std::uintptr_t>(high.host)) return false;
  if ((low.at.iova ^ last_of(high.at)) >= low.unit) return false;
  return is_inside({low.at.iova, low.at.size + high.at.size}, windows);  // windows may touch
}

}  // namespace tidemark::dma
