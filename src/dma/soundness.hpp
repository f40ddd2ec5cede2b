// SPDX-License-Identifier: Apache-2.0
//
// What can be said of a change by itself, whatever is mapped. Pure.

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

}  // namespace tidemark::dma
