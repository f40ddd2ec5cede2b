// SPDX-License-Identifier: Apache-2.0
//
// Who tells what the devices of one container dirtied (R29), and how he is started, asked and stopped:
//
//   devices    each logs its own DMA (R27): all of them can, and none was told not to
//   container  the kernel keeps a bitmap (R25)
//   nobody     all that is mapped is dirty
//
// chosen when tracking starts, and again where a device comes that cannot log. Nothing is lost in between: the next is
// started before the last one is read for the last time, or all is taken as dirty.
//
// Devices log the ranges they were given. For a region elsewhere they are stopped and started anew, while the container
// tracks (a rearm), unless that knows only that all is dirty: then what they do not log is dirty throughout.
//
// Invariants, while tracking is on
//  1. What a device writes to a part that is held is told by the next read() or unmap() of it, or before: by a rearm,
//     a device that closes, a recovery.
//  2. Devices log `armed_` exactly while they are who tells.
//
// Threading: the address space's executor; what is read is told in the lane. Who calls holds the ranges of what is read or
// unmapped, and of everything where devices come and go and tracking starts and stops.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/container.hpp>
#include <tidemark/device.hpp>

#include <cstdint>
#include <functional>
#include <vector>

#include "dma/dirty_reading.hpp"
#include "dma/lane_calls.hpp"
#include "ring/mutex.hpp"
#include "ring/task.hpp"

namespace tidemark::dma {

class tracker {
 public:
  tracker(any_io_executor executor, container& of, const std::function<void(const error&)>& warn)
      : executor_(std::move(executor)), container_(of), warn_(warn) {}

  /// All that the container maps of regions that are there, or may map when granules are populated. Asked for when it comes
  /// to that: there may be very many.
  using held_call = std::function<shown_parts()>;

  /// A device of the container has opened, and has not done anything yet.
  ring::task<void> add_device(device coming, bool may_log, held_call held);
  /// Closes it. What it wrote up to then is told. Refused where the lane takes no more: then it is as it was.
  ring::task<result<void>> close_device(device going, held_call held);

  /// On failure nothing tracks.
  ring::task<result<void>> start(dirty_sink& to, held_call held);
  /// The container comes while others track, without a device yet. What cannot be started is a warning: all it will map is
  /// dirty then.
  ring::task<void> join(dirty_sink& to);
  ring::task<result<void>> stop();

  /// A part will be mapped next: before a device can write there, it is logged.
  ring::task<void> cover(shown_part coming, held_call held);
  /// It is among what is held, or will not be.
  void settle(iova_range came);

  /// A device has failed to report: what it had logged may be gone, wherever (so says the kernel of that). To be mended by
  /// recover(), by which all that is held is told and the devices log anew.
  bool has_failed() const noexcept { return has_failed_; }
  ring::task<void> recover(held_call held);

  /// What was dirtied in these is told. `hull`: a range that holds them all.
  ring::task<void> read(shown_parts parts, iova_range hull);

  /// Unmaps, and tells what was dirtied up to then. After a failure the part may be mapped as before.
  ring::task<result<void>> unmap(shown_part part, std::uint64_t page_size);

 private:
  enum class teller : std::uint8_t { nobody, container, devices };
  struct member {
    device which;
    bool may_log;
  };

  bool can_all_log() const;
  std::vector<device> devices() const;
  ring::task<result<void>> stop_logs();
  ring::task<result<void>> start_container();
  ring::task<result<void>> arm(std::vector<device> of, shown_parts held);
  ring::task<void> log_first_device(shown_parts held);
  ring::task<void> change_to_container(shown_parts held);
  ring::task<void> arm_first(held_call held);
  ring::task<void> rearm(held_call held);
  shown_parts take_unlogged(shown_parts& parts) const;

  ring::task<void> read_by_nobody(shown_parts parts, iova_range hull, dirty_origin why);
  ring::task<void> read_by_teller(shown_parts parts, iova_range hull);
  ring::task<result<void>> unmap_plain(iova_range range);
  ring::task<result<void>> unmap_with_bitmap(shown_part part, std::uint64_t page_size);
  ring::task<void> tell(shown_part part, std::uint64_t page_size, std::span<const std::uint64_t> bits);
  ring::task<result<void>> in_lane(operation what, iova_range range, lane_calls::call work);
  void warn(const error& what) const {
    if (warn_) warn_(what);
  }

  any_io_executor executor_;
  container& container_;
  const std::function<void(const error&)>& warn_;
  std::vector<member> members_;
  dirty_sink* sink_ = nullptr;  // while tracking
  teller teller_ = teller::nobody;
  std::vector<iova_range> armed_;  // what the devices log: ascending, apart
  shown_parts coming_;             // covered, and not settled
  bool knows_only_all_ = false;    // the container: found out by the first rearm since the start
  bool has_failed_ = false;
  ring::mutex rearms_;
};

}  // namespace tidemark::dma
