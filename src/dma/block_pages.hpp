// SPDX-License-Identifier: Apache-2.0
//
// From regions to pages of RAM blocks: which pages a range of IOVAs touches, which of them a bitmap of an IOMMU's pages
// means, and which pages are discarded.
//
// Dirty state belongs to RAM blocks (R30): a page that lies only partly in a range counts as touched by it, and a page that
// some region shows is not discarded, though another region with a granule does not have it populated.
//
// Threading: functions of their arguments.

#pragma once

#include <tidemark/address_space.hpp>

#include <cstdint>
#include <span>
#include <vector>

#include "core/bitmap.hpp"
#include "dma/placed_region.hpp"

namespace tidemark::dma {

/// Pages [first, first + length) of a RAM block, of page_bytes.
using block_pages = core::bitmap::run;
/// Ascending, none meeting or touching another.
using block_page_runs = std::vector<block_pages>;

/// The pages that a range inside the region touches.
block_pages pages_of(const placed_region& of, iova_range range);

/// Where devices see a part of a RAM block: all that it takes to turn IOVAs into pages, on any thread, when the region may
/// be gone already.
struct shown_part {
  iova_range at;
  block_index block = 0;
  std::uint64_t offset = 0;  ///< bytes into the block
};

/// What a range inside the region shows.
shown_part part_of(const placed_region& of, iova_range range);
/// What a range inside a part shows.
shown_part part_of(const shown_part& of, iova_range range) noexcept;

/// Tells of a part: all of it, or what the bits say, of which each is for so many bytes.
void report_all(page_sink& to, const shown_part& part);
void report(page_sink& to, const shown_part& part, std::uint64_t bytes_a_bit, std::span<const std::uint64_t> bits);

/// Of the pages `within` of a RAM block: those that regions with a granule show, and none of them, nor another, populated.
block_page_runs discarded_pages(const placed_regions& regions, block_index block, block_pages within);

/// What is in `from` and not in `without`.
block_page_runs difference(const block_page_runs& from, const block_page_runs& without);

}  // namespace tidemark::dma
