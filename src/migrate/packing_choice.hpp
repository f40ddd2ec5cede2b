// SPDX-License-Identifier: Apache-2.0
//
// Which packing pays on a channel: the one by which a page is over there soonest, packing and sending counted one after the
// other, as one thread does both. Measured on the pages and the connection at hand, again and again: each packing gets a
// frame now and then, more rarely the worse it was. Pure: is told what things took.

#pragma once

#include <tidemark/migration.hpp>

#include <array>
#include <chrono>
#include <cstdint>

#include "migrate/wire.hpp"

namespace tidemark::migrate {

class packing_choice {
 public:
  explicit packing_choice(compression wanted) noexcept : wanted_(wanted) {}

  /// How the next frame of data is to be packed.
  packing next() noexcept;

  /// A frame of `page_bytes` went as `wire_bytes`; packing it took so long, and sending it so long.
  void note(packing how, std::uint64_t page_bytes, std::uint64_t wire_bytes, std::chrono::nanoseconds packing_took,
            std::chrono::nanoseconds sending_took) noexcept;

 private:
  static constexpr std::size_t ways = 3;
  static constexpr unsigned trial_every_first = 8;   ///< frames
  static constexpr unsigned trial_every_most = 512;  ///< a packing that lost is tried this rarely in the end

  struct measured {
    double pack_ns_per_byte = 0;
    double wire_ratio = 1;  ///< wire bytes a page byte
    bool known = false;
    unsigned trial_every = trial_every_first;
    unsigned since_trial = 0;
  };

  double cost(packing how) const noexcept;

  compression wanted_;
  std::array<measured, ways> of_;
  double wire_ns_per_byte_ = 0;
  packing best_ = packing::none;
};

}  // namespace tidemark::migrate
