// SPDX-License-Identifier: Apache-2.0
//
// A region and what of it is where: in pieces that are mapped and unmapped as a whole. A region without a granule is one
// piece; one with a granule has a piece for each.
//
//   populated   which pieces are to be mapped: the one piece always, granules as their owner says
//   held        which pieces a container does map
//
// Invariants
//  1. `in` has a placement for each container, in the order of the containers.
//  2. A piece that is populated is held in every placement that maps anything, and no other is; but while an event changes
//     that, and after a failure whose undoing failed too. The next populate, discard or removal mends it.
//
// Threading: a value; one thread.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/container.hpp>
#include <tidemark/ram_discard.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/bitmap.hpp"

namespace tidemark::dma {

/// Pieces [first, first + length) of a region.
using piece_run = core::bitmap::run;
using piece_runs = std::vector<piece_run>;

/// Runs of set bits, or of clear ones, in a part of a bitmap.
piece_runs set_in(const core::bitmap& bits, piece_run part);
piece_runs clear_in(const core::bitmap& bits, piece_run part);

/// A region in one container.
struct placement {
  std::uint64_t page_size = 0;
  iova_range mapped;   ///< of all pieces; size 0: none can be
  std::string reason;  ///< why
  core::bitmap held;
};

struct placed_region {
  /// `first_byte`: where this process sees it; null when it is skipped for what it is.
  placed_region(region added, std::byte* first_byte);

  /// A container more, with an IOMMU of this page size: nothing is held yet.
  void place(std::uint64_t page_size);

  bool is_ram() const noexcept { return asked.kind == region_kind::ram; }
  /// Whether devices may dirty it.
  bool is_tracked() const noexcept { return is_ram() && asked.writable; }
  bool is_granular() const noexcept { return asked.granule != 0; }

  piece_run all() const noexcept { return {0, populated.size()}; }
  /// Of a region with a granule: the granules of a range inside it.
  piece_run pieces_in(iova_range range) const noexcept;
  iova_range range_of(const placement& where, piece_run pieces) const noexcept;
  mapping mapping_of(iova_range range) const noexcept;

  region_state state() const;

  region asked;
  std::byte* memory;
  std::string skipped;
  core::bitmap populated;
  std::vector<placement> in;
  ram_discard::requirement discards{};  ///< of a region with a granule
};

using placed_regions = std::map<std::uint64_t, placed_region>;  // by IOVA

}  // namespace tidemark::dma
