// SPDX-License-Identifier: Apache-2.0

#include "dma/logged_ranges.hpp"

#include <algorithm>
#include <cstdint>

#include "dma/region_rules.hpp"

namespace tidemark::dma {

namespace {

std::uint64_t last_of(const iova_range& range) noexcept { return range.iova + (range.size - 1); }

/// Ascending, and those that meet or touch joined.
std::vector<iova_range> joined(std::vector<iova_range> ranges) {
  std::erase_if(ranges, [](const iova_range& one) { return one.size == 0; });
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.iova < b.iova; });
  std::vector<iova_range> list;
  for (const auto& one : ranges) {
    if (!list.empty() && one.iova - list.back().iova <= list.back().size) {
      auto& before = list.back();
      before.size = std::max(before.size, one.iova - before.iova + one.size);
    } else {
      list.push_back(one);
    }
  }
  return list;
}

/// The gaps behind ranges that have to go, as indices of the ranges, ascending.
std::vector<std::size_t> smallest_gaps(const std::vector<iova_range>& ranges, std::size_t count) {
  std::vector<std::size_t> behind(ranges.size() - 1);
  for (std::size_t i = 0; i < behind.size(); ++i) behind[i] = i;
  const auto gap = [&](std::size_t i) { return ranges[i + 1].iova - last_of(ranges[i]); };
  std::nth_element(behind.begin(), behind.begin() + static_cast<std::ptrdiff_t>(count - 1), behind.end(),
                   [&](std::size_t a, std::size_t b) { return gap(a) < gap(b); });
  behind.resize(count);
  std::sort(behind.begin(), behind.end());
  return behind;
}

}  // namespace

std::vector<iova_range> logged_ranges(std::vector<iova_range> ranges, std::size_t count_max) {
  auto apart = joined(std::move(ranges));
  if (apart.size() <= count_max) return apart;
  const auto closed = smallest_gaps(apart, apart.size() - count_max);
  std::vector<iova_range> list;
  auto next = closed.begin();
  for (std::size_t i = 0; i < apart.size(); ++i) {
    const bool joins = i != 0 && next != closed.end() && *next == i - 1;
    if (joins) {
      list.back().size = last_of(apart[i]) - list.back().iova + 1;
      ++next;
    } else {
      list.push_back(apart[i]);
    }
  }
  return list;
}

bool is_within(const std::vector<iova_range>& ranges, iova_range which) noexcept {
  const auto behind = std::upper_bound(ranges.begin(), ranges.end(), which.iova,
                                       [](std::uint64_t iova, const iova_range& one) { return iova < one.iova; });
  return behind != ranges.begin() && contains(*std::prev(behind), which);
}

}  // namespace tidemark::dma
