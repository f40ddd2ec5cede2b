// SPDX-License-Identifier: Apache-2.0

#include "dma/placed_region.hpp"

#include <algorithm>
#include <utility>

#include "dma/region_rules.hpp"

namespace tidemark::dma {

piece_runs set_in(const core::bitmap& bits, piece_run part) {
  piece_runs runs;
  const auto end = part.first + part.length;
  for (auto from = part.first; from < end;) {
    const auto found = bits.next_run(from, end - from);
    if (found.length == 0 || found.first >= end) break;
    runs.push_back({found.first, std::min(found.length, end - found.first)});
    from = found.first + found.length;
  }
  return runs;
}

piece_runs clear_in(const core::bitmap& bits, piece_run part) {
  piece_runs runs;
  auto from = part.first;
  for (const auto& taken : set_in(bits, part)) {
    if (taken.first != from) runs.push_back({from, taken.first - from});
    from = taken.first + taken.length;
  }
  const auto end = part.first + part.length;
  if (from != end) runs.push_back({from, end - from});
  return runs;
}

placed_region::placed_region(region added, std::byte* first_byte)
    : asked(added),
      memory(first_byte),
      skipped(why_skipped(added)),
      populated(added.granule == 0 ? 1 : added.at.size / added.granule) {
  if (!is_granular()) populated.set(0, 1);
}

void placed_region::place(std::uint64_t page_size) {
  placement where{.page_size = page_size, .mapped = {}, .reason = {}, .held = core::bitmap(populated.size())};
  if (skipped.empty()) {
    auto part = fit(asked.at, memory, page_size);
    where.mapped = part.mapped;
    where.reason = std::move(part.reason);
  }
  in.push_back(std::move(where));
}

piece_run placed_region::pieces_in(iova_range range) const noexcept {
  return {(range.iova - asked.at.iova) / asked.granule, range.size / asked.granule};
}

iova_range placed_region::range_of(const placement& where, piece_run pieces) const noexcept {
  if (!is_granular()) return where.mapped;
  return {asked.at.iova + pieces.first * asked.granule, pieces.length * asked.granule};
}

mapping placed_region::mapping_of(iova_range range) const noexcept {
  return {range, memory + (range.iova - asked.at.iova), asked.writable, asked.granule};
}

region_state placed_region::state() const {
  region_state told{.asked = asked, .skipped = skipped, .in = {}, .populated = {}};
  if (is_granular())
    for (const auto& run : set_in(populated, all())) told.populated.push_back(range_of({}, run));
  if (!skipped.empty()) return told;
  for (const auto& where : in) {
    region_placement one{where.page_size, where.mapped, {}, {}, where.reason};
    const auto front = where.mapped.iova - asked.at.iova;
    const auto back = asked.at.size - front - where.mapped.size;
    if (where.mapped.size != 0 && front != 0) one.trimmed_front = {asked.at.iova, front};
    if (where.mapped.size != 0 && back != 0) one.trimmed_back = {where.mapped.iova + where.mapped.size, back};
    told.in.push_back(std::move(one));
  }
  return told;
}

}  // namespace tidemark::dma
