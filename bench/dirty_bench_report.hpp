// SPDX-License-Identifier: Apache-2.0
//
// What the dirty bench measured, and how it is told: as a table, as JSON lines, as a picture. Values and pure functions.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tidemark::bench {

/// Where dirty pages lie.
enum class shape : std::uint8_t {
  scattered,  ///< each page by itself
  clustered,  ///< in aligned stretches of 512 pages (2 MiB) that are dirty as a whole
};

/// Bitmaps of a guest taken in and handed out as runs.
struct scan_row {
  unsigned guest_tib = 0;
  double dirty_percent = 0;  ///< of each source
  shape how = shape::scattered;
  unsigned sources = 0;
  double ms = 0;
  double memcpy_ms = 0;
  double gb_per_s = 0;  ///< of bitmap
  double vs_memcpy = 0;
  // Next to the obvious loop, where that was measured.
  std::optional<double> plain_ms;
  std::optional<double> vs_plain;
};

struct report {
  double stream_clean_us = 0;
  double merge_clean_vs_memcpy = 0;
  double scan_vs_memcpy = 0;
  double scan_vs_naive = 0;
  double bitmap_bits_per_page = 0;
  double stream_scan_vs_memcpy = 0;

  // What they are made of, for a reader.
  double tell_ms = 0;
  double take_ms = 0;
  double memcpy_ms = 0;
  double allocated_bits_per_page = 0;
  double resident_bits_per_page = 0;
  double round_ms = 0;
  double next_ms = 0;
  double stream_memcpy_ms = 0;

  std::vector<scan_row> rows;
};

std::string as_text(const report& told);
std::string as_json(const report& told);  ///< lines: a row each, then the figures
std::string as_svg(const report& told);

}  // namespace tidemark::bench
