// SPDX-License-Identifier: Apache-2.0
//
// In a container's lane: devices that log are given other ranges, and nothing that they write meanwhile is lost, because the
// container tracks from before they are stopped until after they are started again.
//
// Threading: whoever is in the lane. Blocks until everything that is mapped has been read twice: it is rare.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/device.hpp>

#include <span>
#include <vector>

#include "dma/dirty_reading.hpp"

namespace tidemark::dma {

/// START on each. A failure stops those that had started (R27).
result<void> start_logs(std::span<const device> of, std::span<const iova_range> ranges);
/// STOP on each, whatever one answers. The last failure.
result<void> stop_logs(std::span<const device> of);

enum class rearmed : std::uint8_t {
  yes,
  knows_only_all,     ///< nothing was changed: the container would tell that all is dirty
  cannot_track,       ///< nothing was changed: the container does not track
  container_goes_on,  ///< the devices did not start again: they do not log, and the container tracks
};

/// `held`: the parts that the container maps; `logged`: those of them that the devices log.
rearmed rearm(const lane_place& in, std::span<const device> devices, std::span<const iova_range> ranges,
              const shown_parts& logged, const shown_parts& held, dirty_sink& to);

}  // namespace tidemark::dma
