// SPDX-License-Identifier: Apache-2.0
//
// What is measured of the union of dirty pages: bitmaps that sources tell are taken in, and handed out as runs; next to
// memcpy of the same bitmaps, and to the obvious loop over them.
//
// Threading: one thread.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "dirty_bench_clock.hpp"
#include "dirty_bench_report.hpp"

namespace tidemark::bench {

using bitmap_words = std::vector<std::uint64_t>;

inline constexpr std::uint64_t tebibyte_pages = (std::uint64_t{1} << 40) / 4096;
inline constexpr std::size_t sources_max = 3;
inline constexpr std::size_t batch_pages = 4096;
/// Of a source's bitmap, told at a time: 8 GiB of guest, as a lane tells them.
inline constexpr std::uint64_t slice_words = (256 << 10) / sizeof(std::uint64_t);

/// Fills it with a guest's bitmap, whole tebibytes, of which so many pages of 1000 are dirty, picked by `seed`. Each
/// tebibyte is like the first.
void make_bitmap(bitmap_words& bits, shape how, unsigned permille, std::uint64_t seed);

/// Microseconds to walk the union of a clean guest of 8 TiB to its end.
double stream_clean_us(const evictor& evict);

/// Three clean bitmaps of a TiB: how many times as fast as memcpy they are taken in.
double merge_clean_vs_memcpy(const evictor& evict);

/// Three sources of a TiB, 1 % each, scattered.
struct scan_figures {
  double vs_memcpy = 0;
  double vs_plain = 0;
  double tell_ms = 0;
  double take_ms = 0;
  double memcpy_ms = 0;
};
scan_figures scan(const evictor& evict);

/// The table: guests of 1 TiB and of 8, the latter not by the obvious loop, which would take too long.
std::vector<scan_row> scan_rows(const evictor& evict);

}  // namespace tidemark::bench
