// SPDX-License-Identifier: Apache-2.0
//
// Test devices that write: arrays of doorbells, eight bytes each, with values that never repeat.
//
// Threading: any thread; blocks for as long as the device writes.

#pragma once

#include <tidemark/device.hpp>

#include <cstdint>
#include <deque>
#include <span>

#include "kernel/test_device.h"
#include "soak_guest.hpp"

namespace tidemark::bench {

/// What became of an array of doorbells.
struct rung {
  std::uint64_t carried_out = 0;
  std::uint64_t refused = 0;  ///< nothing is mapped there (any more)
  int failed = 0;             ///< with this errno, which no doorbell here may meet: the rest was not tried
};

/// All of them, going on behind those that are refused.
rung ring_all(const device& on, std::span<const tidemark_test_doorbell> bells) noexcept;

/// A doorbell for eight bytes of a page of a view.
tidemark_test_doorbell doorbell_at(std::uint64_t view_at, std::uint64_t page, choices& random) noexcept;

/// `writes` doorbells, each for a random page of a random view, as carried out as `ring_all` says.
rung ring_at_random(const device& on, std::deque<view>& views, std::uint64_t writes, choices& random) noexcept;

}  // namespace tidemark::bench
