// SPDX-License-Identifier: Apache-2.0
//
// A device's log of its own DMA (R27): VFIO_DEVICE_FEATURE_DMA_LOGGING_START, STOP and REPORT of <linux/vfio.h>.
//
// Threading: blocks for as long as the device's driver takes, which may ask its firmware.

#pragma once

#include <tidemark/device.hpp>
#include <tidemark/error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tidemark::backend {

/// Ranges that one START takes: they fit a page of the kernel's.
std::size_t logged_ranges_max() noexcept;

/// Writes within `ranges`, which do not meet, are logged from now on, in pages of `page_size` or of what the device can.
/// EINVAL: it logs already.
result<void> start_log(const device& of, std::span<const iova_range> ranges, std::uint64_t page_size);

/// Harmless when it does not log.
result<void> stop_log(const device& of);

/// Sets the bit of each page of `page_size` that was written since the last report, which the device then forgets. Bits that
/// are set stay set. After an error take the whole range as written.
result<void> report_log(const device& of, iova_range range, std::uint64_t page_size, std::span<std::uint64_t> bits);

}  // namespace tidemark::backend
