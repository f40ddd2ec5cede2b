// SPDX-License-Identifier: Apache-2.0
//
// A mapping under dirty tracking, and the device that writes it.

#pragma once

#include <vector>

#include "conformance/bench.hpp"

namespace tidemark::conformance {

/// Tracks one mapping, `pages` from `first` on, with its test device open.
struct tracked {
  tracked(const bench& b, std::uint64_t first, std::uint64_t pages)
      : s(emulated_session(b)), ram(pages * page), device(s.device()) {
    expect(s.map(first * page, pages * page, ram.address()), 0, "MAP");
    expect(s.start(), 0, "START");
  }

  void write(std::uint64_t page_number) const { expect(ring(s.on, device, page_number * page, 8, 1), 0, "a doorbell"); }

  /// The first word of the bitmap of `pages` from `first` on.
  std::uint64_t word(std::uint64_t first, std::uint64_t pages) const {
    std::vector<std::uint64_t> words((pages + 63) / 64);
    expect(s.get(first * page, pages * page, words), 0, "GET");
    return words[0];
  }

  session s;
  memory ram;
  kernel::handle device;
};

}  // namespace tidemark::conformance
