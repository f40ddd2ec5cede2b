// SPDX-License-Identifier: Apache-2.0
//
// What a dirty stream has seen so far, for whoever watches it. Threading: values.

#pragma once

#include <tidemark/page_run.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace tidemark {

/// What one source told since tracking started.
struct dirty_source_statistics {
  std::string name;              ///< of a cpu_dirty_source, or name_of() a dirty_origin
  std::uint64_t told_pages = 0;  ///< a page counts as often as it was told
  std::uint64_t new_pages = 0;   ///< of those, the ones that were not known to be dirty

  std::uint64_t told_bytes() const noexcept { return told_pages * page_bytes; }
  std::uint64_t new_bytes() const noexcept { return new_pages * page_bytes; }
};

/// What became dirty from one round to the next.
struct dirty_rate {
  std::uint32_t round = 0;                     ///< that began with it; never the first, in which everything is dirty
  std::chrono::steady_clock::time_point at{};  ///< when it began
  std::chrono::nanoseconds since_last{};       ///< round
  std::uint64_t pages = 0;                     ///< that became dirty in between

  std::uint64_t bytes_per_s() const noexcept;
};

/// Percentiles of durations: within 4 %, as they are counted in classes. 0 while there are none.
struct latency_statistics {
  std::uint64_t count = 0;
  std::chrono::nanoseconds min{}, mean{}, p50{}, p90{}, p99{}, p999{}, max{};
};

struct dirty_statistics {
  /// By dirty_origin, then the CPU sources in the order they were given.
  std::vector<dirty_source_statistics> sources;
  /// Oldest first; the last dirty_rates_kept of them.
  std::vector<dirty_rate> rates;
  /// Of taking in what all sources saw: what async_begin_round takes.
  latency_statistics sync;

  std::uint32_t rounds = 0;
  std::uint64_t dirty_pages = 0;       ///< known, and not handed out
  std::uint64_t handed_out_pages = 0;  ///< since tracking started, as the next two
  std::uint64_t acknowledged_pages = 0;
  std::uint64_t given_back_pages = 0;  ///< batches that were not acknowledged
  std::uint64_t bitmap_bytes = 0;      ///< memory of the union of all sources, both levels
};

inline constexpr std::size_t dirty_rates_kept = 256;

}  // namespace tidemark
