// SPDX-License-Identifier: Apache-2.0
//
// In a container's lane: what devices dirtied is read, and told to a sink page by page of RAM blocks. What cannot be read is
// told as dirty: nothing is lost (R26).
//
// Threading: whoever is in the lane. Blocks for as long as the ioctls and the sink take.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/device.hpp>

#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "backend/iommu.hpp"
#include "dma/block_pages.hpp"
#include "dma/container_request.hpp"

namespace tidemark::dma {

using shown_parts = std::vector<shown_part>;

/// A reading of several parts, of which a turn does some, so that others get theirs.
class reading {
 public:
  explicit reading(shown_parts what) : parts_(std::move(what)) { begin_part(); }

  bool is_over() const noexcept { return next_ == parts_.size(); }
  /// What is to be read now: of one part.
  shown_part now() const { return part_of(parts_[next_], left_); }
  /// That ends at `slice`, which is a part of it, or is empty: of nothing else in the part there is anything to read.
  void done(iova_range slice);
  void skip_part();

 private:
  void begin_part();

  shown_parts parts_;
  std::size_t next_ = 0;
  iova_range left_;  // of the part
};

/// By the container's bitmap: slice by slice, cut between mappings. `bytes_max`: of IOVAs to read in this turn.
void read_container(const lane_place& in, reading& todo, dirty_sink& to, std::uint64_t bytes_max);

/// By the logs of devices, all of which log what is read. False: one could not tell.
bool read_logs(const lane_place& in, std::span<const device> devices, reading& todo, dirty_sink& to,
               std::uint64_t bytes_max);

/// All that is left of it, as told by `why`.
void tell_all(reading& todo, page_sink& why);

/// VFIO_IOMMU_DIRTY_PAGES GET_BITMAP of a range that cuts no mapping, in several if its bitmap is too large for one.
result<void> query_dirty(const lane_place& in, backend::iommu& driver, iova_range range, std::span<std::uint64_t> dirty);

}  // namespace tidemark::dma
