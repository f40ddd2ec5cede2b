// SPDX-License-Identifier: Apache-2.0
//
// Where the ticks of a plot's axis stand, and what they say. Pure functions; any thread.

#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace tidemark::cli {

struct tick {
  double at = 0;  ///< of the axis: 0 to 1
  std::string label;
};

struct plot_scale {
  double top = 1;  ///< what is at the axis's end
  std::vector<tick> ticks;
};

/// From 0 to at least `most`, with three to five ticks at powers of two, all in one unit; `suffix` goes behind it: "/s".
plot_scale bytes_scale(std::uint64_t most, const char* suffix = "");
/// 0 to 100 %.
plot_scale percent_scale();
/// From 0 to just `end`, with at most nine ticks; top is in nanoseconds.
plot_scale time_scale(std::chrono::nanoseconds end);

}  // namespace tidemark::cli
