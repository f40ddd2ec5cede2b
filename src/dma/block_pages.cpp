// SPDX-License-Identifier: Apache-2.0

#include "dma/block_pages.hpp"

#include <algorithm>

namespace tidemark::dma {

namespace {

/// The pages that bytes [offset, offset + size) of a block touch.
block_pages touched(std::uint64_t offset, std::uint64_t size) {
  const auto first = offset / page_bytes;
  const auto end = (offset + size + page_bytes - 1) / page_bytes;
  return {first, end - first};
}

block_pages clipped(block_pages pages, block_pages to) {
  const auto first = std::max(pages.first, to.first);
  const auto end = std::min(pages.first + pages.length, to.first + to.length);
  return first < end ? block_pages{first, end - first} : block_pages{first, 0};
}

block_page_runs joined(block_page_runs runs) {
  std::erase_if(runs, [](const block_pages& run) { return run.length == 0; });
  std::sort(runs.begin(), runs.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  block_page_runs list;
  for (const auto& run : runs) {
    if (!list.empty() && run.first <= list.back().first + list.back().length) {
      auto& last = list.back();
      last.length = std::max(last.length, run.first + run.length - last.first);
    } else {
      list.push_back(run);
    }
  }
  return list;
}

/// The pages of its block that a region with a granule has populated, or that any other shows.
void add_shown(const placed_region& one, block_pages within, block_page_runs& to) {
  if (!one.is_granular()) return to.push_back(clipped(pages_of(one, one.asked.at), within));
  const auto own = clipped(pages_of(one, one.asked.at), within);
  if (own.length == 0) return;
  const auto granule_pages = one.asked.granule / page_bytes;
  const auto begin = own.first - one.asked.offset / page_bytes;
  const auto first = begin / granule_pages;
  const auto end = (begin + own.length + granule_pages - 1) / granule_pages;
  for (const auto& run : set_in(one.populated, {first, end - first}))
    to.push_back(clipped(pages_of(one, one.range_of({}, run)), within));
}

}  // namespace

block_pages pages_of(const placed_region& of, iova_range range) {
  return touched(of.asked.offset + (range.iova - of.asked.at.iova), range.size);
}

shown_part part_of(const placed_region& of, iova_range range) {
  return {range, of.asked.block, of.asked.offset + (range.iova - of.asked.at.iova)};
}

shown_part part_of(const shown_part& of, iova_range range) noexcept {
  return {range, of.block, of.offset + (range.iova - of.at.iova)};
}

void report_all(page_sink& to, const shown_part& part) {
  const auto pages = touched(part.offset, part.at.size);
  to.mark({part.block, pages.first, pages.length});
}

void report(page_sink& to, const shown_part& part, std::uint64_t bytes_a_bit, std::span<const std::uint64_t> bits) {
  if (bytes_a_bit == page_bytes && part.offset % page_bytes == 0)
    return to.merge(part.block, part.offset / page_bytes, part.at.size / page_bytes, bits);
  core::bitmap dirty(part.at.size / bytes_a_bit);
  dirty.merge(0, dirty.size(), bits);
  for (const auto& run : set_in(dirty, {0, dirty.size()})) {
    const auto wider = touched(part.offset + run.first * bytes_a_bit, run.length * bytes_a_bit);
    to.mark({part.block, wider.first, wider.length});
  }
}

block_page_runs discarded_pages(const placed_regions& regions, block_index block, block_pages within) {
  block_page_runs granular;
  block_page_runs shown;
  for (const auto& [iova, one] : regions) {
    if (!one.is_ram() || one.asked.block != block) continue;
    if (one.is_granular()) granular.push_back(clipped(pages_of(one, one.asked.at), within));
    add_shown(one, within, shown);
  }
  return difference(joined(std::move(granular)), joined(std::move(shown)));
}

block_page_runs difference(const block_page_runs& from, const block_page_runs& without) {
  block_page_runs list;
  auto hole = without.begin();
  for (const auto& run : from) {
    auto at = run.first;
    const auto end = run.first + run.length;
    while (hole != without.end() && hole->first + hole->length <= at) ++hole;
    for (auto next = hole; next != without.end() && next->first < end; ++next) {
      if (next->first > at) list.push_back({at, next->first - at});
      at = next->first + next->length;
    }
    if (at < end) list.push_back({at, end - at});
  }
  return list;
}

}  // namespace tidemark::dma
