// SPDX-License-Identifier: Apache-2.0

#include "dirty_bench_report.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace tidemark::bench {

namespace {

template <class... Values>
std::string format(const char* how, Values... values) {
  std::array<char, 512> text{};
  const int length = std::snprintf(text.data(), text.size(), how, values...);
  return {text.data(), static_cast<std::size_t>(std::clamp(length, 0, static_cast<int>(text.size()) - 1))};
}

const char* name_of(shape how) { return how == shape::scattered ? "scattered" : "clustered"; }

std::string text_of(const scan_row& r) {
  auto line = format("%4u TiB %7.1f %-10s %7u %10.2f %8.1f %10.2f", r.guest_tib, r.dirty_percent, name_of(r.how), r.sources,
                     r.ms, r.gb_per_s, r.vs_memcpy);
  return line + (r.vs_naive ? format(" %10.1f\n", *r.vs_naive) : format(" %10s\n", "-"));
}

std::string json_of(const scan_row& r) {
  const auto vs_naive = r.vs_naive ? format("%.4g", *r.vs_naive) : std::string("null");
  return format(
             "{\"guest_tib\":%u,\"dirty_percent\":%.4g,\"shape\":\"%s\",\"sources\":%u,\"ms\":%.4g,\"memcpy_ms\":%.4g,"
             "\"gb_per_s\":%.4g,\"vs_memcpy\":%.4g,\"vs_naive\":",
             r.guest_tib, r.dirty_percent, name_of(r.how), r.sources, r.ms, r.memcpy_ms, r.gb_per_s, r.vs_memcpy) +
         vs_naive + "}\n";
}

}  // namespace

std::string as_text(const report& t) {
  std::string text;
  if (!t.rows.empty())
    text += format("%8s %7s %-10s %7s %10s %8s %10s %10s\n", "GUEST", "DIRTY %", "WHERE", "SOURCES", "MS", "GB/S", "VS MEMCPY",
                   "VS OBVIOUS");
  for (const auto& row : t.rows) text += text_of(row);
  text += format("a clean guest of 8 TiB: %.1f us; clean bitmaps are taken in %.2f times as fast as memcpy copies them\n",
                 t.stream_clean_us, t.merge_clean_vs_memcpy);
  text += format("three sources of 1 TiB, 1 %% each: told in %.1f ms, taken in %.1f ms; %.2f of memcpy (%.1f ms),\n", t.tell_ms,
                 t.take_ms, t.scan_vs_memcpy, t.memcpy_ms);
  text += format("  %.1f times the obvious loop\n", t.scan_vs_naive);
  text += format("the same by a stream: a round begins in %.1f ms, its batches come in %.1f ms; %.2f of memcpy (%.1f ms)\n",
                 t.round_ms, t.next_ms, t.stream_scan_vs_memcpy, t.stream_memcpy_ms);
  text += format("memory of a stream with a program's record, a page: %.3f bits allocated, %.3f resident\n",
                 t.allocated_bits_per_page, t.resident_bits_per_page);
  return text;
}

std::string as_json(const report& t) {
  std::string lines;
  for (const auto& row : t.rows) lines += json_of(row);
  return lines + format("{\"stream_clean_us\":%.4g,\"merge_clean_vs_memcpy\":%.4g,\"scan_vs_memcpy\":%.4g,"
                        "\"scan_vs_naive\":%.4g,\"bitmap_bits_per_page\":%.4g,\"stream_scan_vs_memcpy\":%.4g}\n",
                        t.stream_clean_us, t.merge_clean_vs_memcpy, t.scan_vs_memcpy, t.scan_vs_naive, t.bitmap_bits_per_page,
                        t.stream_scan_vs_memcpy);
}

std::string as_svg(const report&) { return "<svg/>\n"; }

}  // namespace tidemark::bench
