// SPDX-License-Identifier: Apache-2.0

#include "dirty_bench_report.hpp"
#include "core/formatted.hpp"

namespace tidemark::bench {

namespace {

const char* name_of(shape how) { return how == shape::scattered ? "scattered" : "clustered"; }

std::string number(const std::optional<double>& value) { return value ? core::formatted("%.4g", *value) : "null"; }

std::string text_of(const scan_row& r) {
  const auto line = core::formatted("%4u TiB %7.1f  %-10s %7u %9.2f %7.1f %10.2f", r.guest_tib, r.dirty_percent,
                                    name_of(r.how), r.sources, r.ms, r.gb_per_s, r.vs_memcpy);
  return line + (r.vs_plain ? core::formatted(" %11.1f\n", *r.vs_plain) : core::formatted(" %11s\n", "-"));
}

std::string json_of(const scan_row& r) {
  return core::formatted("{\"guest_tib\":%u,\"dirty_percent\":%g,\"shape\":\"%s\",\"sources\":%u,", r.guest_tib,
                         r.dirty_percent, name_of(r.how), r.sources) +
         core::formatted("\"ms\":%.4g,\"gb_per_s\":%.4g,\"memcpy_ms\":%.4g,\"vs_memcpy\":%.4g,", r.ms, r.gb_per_s,
                         r.memcpy_ms, r.vs_memcpy) +
         "\"naive_ms\":" + number(r.plain_ms) + ",\"vs_naive\":" + number(r.vs_plain) + "}\n";
}

std::string figures_of(const report& t) {
  return core::formatted("{\"stream_clean_us\":%.4g,\"merge_clean_vs_memcpy\":%.4g,", t.stream_clean_us,
                         t.merge_clean_vs_memcpy) +
         core::formatted("\"scan_vs_memcpy\":%.4g,\"scan_vs_naive\":%.4g,", t.scan_vs_memcpy, t.scan_vs_naive) +
         core::formatted("\"bitmap_bits_per_page\":%.4g,\"stream_scan_vs_memcpy\":%.4g}\n", t.bitmap_bits_per_page,
                         t.stream_scan_vs_memcpy);
}

std::string table_of(const std::vector<scan_row>& rows) {
  if (rows.empty()) return {};
  auto text = core::formatted("%8s %7s  %-10s %7s %9s %7s %10s %11s\n", "GUEST", "DIRTY %", "WHERE", "SOURCES", "MS", "GB/S",
                              "VS MEMCPY", "VS OBVIOUS");
  for (const auto& row : rows) text += text_of(row);
  return text +
         "taken in and handed out as runs; GB/S of bitmaps; VS: how many times as fast, 8 TiB not by the obvious loop;\n"
         "clustered: stretches of 512 pages that are dirty as a whole\n\n";
}

}  // namespace

std::string as_text(const report& t) {
  return table_of(t.rows) +
         core::formatted(
             "a clean guest of 8 TiB is walked in %.1f us; three clean bitmaps of 1 TiB are taken in %.2f times as fast as\n"
             "memcpy copies them\n",
             t.stream_clean_us, t.merge_clean_vs_memcpy) +
         core::formatted(
             "three sources of 1 TiB, 1 %% each, scattered: told in %.1f ms, taken in %.1f ms: %.2f times as fast as "
             "memcpy\n"
             "(%.1f ms), %.1f times as the obvious loop\n",
             t.tell_ms, t.take_ms, t.scan_vs_memcpy, t.memcpy_ms, t.scan_vs_naive) +
         core::formatted(
             "the same by a stream, by the wall clock: a round begins in %.1f ms and comes in %.1f ms: %.2f times as fast "
             "as\n"
             "memcpy (%.1f ms)\n",
             t.round_ms, t.next_ms, t.stream_scan_vs_memcpy, t.stream_memcpy_ms) +
         core::formatted("memory of a stream and a program's record, a page: %.3f bits allocated, %.3f resident\n",
                         t.allocated_bits_per_page, t.resident_bits_per_page);
}

std::string as_json(const report& t) {
  std::string lines;
  for (const auto& row : t.rows) lines += json_of(row);
  return lines + figures_of(t);
}

}  // namespace tidemark::bench
