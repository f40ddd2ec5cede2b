// SPDX-License-Identifier: Apache-2.0
//
// What is measured of a whole dirty_stream, by what its users see of it. Each function runs an event loop of its own.

#pragma once

#include "dirty_bench_clock.hpp"

namespace tidemark::bench {

/// Memory for tracking, divided by the pages of the guest: a block of 1 TiB of which every page was dirty in the union and
/// in a dirty_log, and of which then every other 64 MiB were discarded, so that no part of any bitmap has stayed untouched.
/// What the program had more of than before the log and the stream were made. Run first: memory that was used before, and
/// comes again, is not seen.
struct tracking_memory {
  double allocated_bits_per_page = 0;  ///< by malloc: mallinfo2
  double resident_bits_per_page = 0;   ///< /proc/self/statm
};
tracking_memory memory_of_a_stream();

/// Rounds of a stream with three sources, which tell bitmaps of 1 TiB with 1 % of pages dirty, scattered. Everybody's wall
/// clock, as the sources are asked on a thread of their own.
struct stream_figures {
  double vs_memcpy = 0;
  double round_ms = 0;  ///< async_begin_round
  double next_ms = 0;   ///< async_next until it is empty
  double memcpy_ms = 0;
};
stream_figures scan_by_a_stream(const evictor& evict);

}  // namespace tidemark::bench
