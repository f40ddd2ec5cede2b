// SPDX-License-Identifier: Apache-2.0
//
// A device's place in the kernel's migration state machine (R32), and what is said of its data (R34):
// VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, VFIO_DEVICE_FEATURE_MIG_DATA_SIZE and VFIO_MIG_GET_PRECOPY_INFO of <linux/vfio.h>.
//
// Which ways there are between two states only the kernel says: a change asks it for the new state, and it goes through
// those between.
//
// Threading: blocks for as long as the device's driver takes, which may wait for its DMA to end or ask its firmware. Calls
// for one device come one at a time.

#pragma once

#include <tidemark/device.hpp>
#include <tidemark/error.hpp>

#include <cstdint>
#include <optional>
#include <string_view>

namespace tidemark::backend {

/// Numbered as the kernel's enum vfio_device_mig_state.
enum class device_state : std::uint32_t {
  error = 0,
  stop,
  running,
  stop_copy,
  resuming,
  running_p2p,
  pre_copy,
  pre_copy_p2p,
};

/// As the kernel calls it: "STOP_COPY".
std::string_view name_of(device_state state) noexcept;

/// Where a device got to.
struct state_change {
  device_state now = device_state::error;  ///< error: it is lost, and nothing but closing it is left
  kernel::handle data;                     ///< the data file, when a stay in states that have one began
  std::optional<error> failure;            ///< why it is not in the state that was asked for, and what was done about it
};

/// Goes to `to`. When that fails, which may be anywhere on the way, it goes to `recover` instead (which may be `to`: then it
/// is tried once more); when that fails, too, the device is reset, which makes it RUNNING with all of its state gone; and
/// when that fails it is lost (errc::device_lost).
state_change change_state(const device& of, device_state to, device_state recover);

/// VFIO_DEVICE_RESET: RUNNING, and its state is gone. Ends its data file.
result<void> reset_device(const device& of);

/// What the kernel says.
result<device_state> state_of(const device& of);

/// What a read of the data file would still give in PRE_COPY and PRE_COPY_P2P, by the driver's estimate.
struct pre_copy_estimate {
  std::uint64_t initial_bytes = 0;  ///< of what has to be sent once, best before the device is stopped
  std::uint64_t dirty_bytes = 0;    ///< changed since it was sent
};
result<pre_copy_estimate> pre_copy_left(const device& of, int data_fd);

/// What a stop-copy would give, by the driver's estimate; nothing: the kernel, or the driver, does not say.
std::optional<std::uint64_t> stop_copy_bytes(const device& of);

}  // namespace tidemark::backend
