// SPDX-License-Identifier: Apache-2.0
//
// Keeps pieces of regions mapped in every container of an address space: all of them everywhere, or as before.
//
// Every container is asked before any is awaited, so each lane sees the requests in the order they were given here. Who
// calls holds the regions' ranges (range_lock), so that no two calls are about one piece.
//
// While a sink is set, what devices dirtied in a piece is told to it at every query and at every unmap (tracker).
//
// Threading: the address space's executor.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/host.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "dma/placed_region.hpp"
#include "dma/tracker.hpp"
#include "ring/task.hpp"

namespace tidemark::dma {

/// Regions that are asked about at a time.
inline constexpr std::size_t regions_at_once = 1024;

class placer {
 public:
  placer(any_io_executor executor, const host& around) : executor_(std::move(executor)), host_(around) {}

  /// Gives a region that came its placements.
  result<void> place(placed_region& which) const;

  /// Maps what of the pieces is not mapped. `as_before`: error::undone when it failed and all is as it was.
  ring::task<result<void>> hold(placed_region& which, piece_run pieces, std::string as_before);
  /// Unmaps what of the pieces is mapped.
  ring::task<result<void>> release(placed_region& which, piece_run pieces, std::string as_before);
  /// Tells the sink what devices dirtied in what is mapped.
  ring::task<void> query(const placed_region& which);
  /// A region that has its placements will be held next: devices that log get to know its range.
  ring::task<void> cover(const placed_region& coming, const placed_regions& others);
  /// It is among the others now, or was not held.
  void settle(const placed_region& came);

  /// A device of a container has opened; is to be closed.
  ring::task<void> add_device(const container& in, const device& coming, bool may_log, const placed_regions& regions);
  ring::task<result<void>> close_device(container& in, const device& going, const placed_regions& regions);

  /// A container comes, and all that is populated is mapped in it; on failure it may hold some of it, and takes no part.
  ring::task<result<void>> join(container& coming, std::uint64_t page_size, placed_regions& regions);
  /// It goes; what its devices dirtied is told. Its mappings go with it.
  ring::task<void> leave(const container& going, placed_regions& regions);
  /// The page size of a container has changed with a group that came or went. Refused where a granule does not suit it.
  result<void> resize(const container& which, std::uint64_t page_size, const placed_regions& regions);

  // Memory that moves (R24). A failure says what of it is undone.

  /// Whether a region whose memory is at `to` lies within every IOMMU's pages as before: those it was mapped by, and those
  /// that a container has now.
  result<void> check_moved(const placed_region& which, const std::byte* to) const;

  /// In every container, or in none.
  ring::task<result<void>> release_addresses(const placed_regions& regions);
  /// Where the regions' memory is now is told to every container; what one has been told already costs nothing.
  ring::task<result<void>> renew_addresses(const placed_regions& regions);

  ring::task<result<void>> start_tracking(dirty_sink& sink, const placed_regions& regions);
  ring::task<result<void>> stop_tracking();
  /// A device has failed to report: see tracker.
  bool has_failed() const noexcept;
  ring::task<void> recover(const placed_regions& regions);
  /// Null while nobody tracks.
  dirty_sink* sink() const noexcept { return sink_; }

 private:
  /// A container in use.
  struct member {
    container* where;
    std::uint64_t page_size;
    std::shared_ptr<tracker> dirty;
  };
  using members = std::vector<member>;
  /// Pieces by member.
  using pieces_by_member = std::vector<piece_runs>;

  template <class Ask>
  ring::task<std::vector<result<void>>> ask_all(Ask ask);

  ring::task<result<void>> map(member in, placed_region& which, placement& where, piece_runs pieces);
  ring::task<result<void>> unmap(member in, const placed_region& which, placement& where, piece_runs pieces);
  ring::task<result<void>> unmap_run(member in, const placed_region& which, placement& where, piece_run run);
  ring::task<result<void>> unmap_each(member in, const placed_region& which, placement& where, piece_run run);
  ring::task<result<void>> unmap_range(member in, const placed_region& which, iova_range range);
  ring::task<void> query_placement(member in, const placed_region& which, const placement& where);
  ring::task<result<void>> renew(member in, const placed_regions& regions, std::size_t index);
  void warn_of(placement& where, error why) const;
  member make_member(container& of, std::uint64_t page_size) const;
  members::iterator find(const container& which);
  std::size_t index_of(const member& in) const;

  any_io_executor executor_;
  const host& host_;
  members members_;
  dirty_sink* sink_ = nullptr;
};

}  // namespace tidemark::dma
