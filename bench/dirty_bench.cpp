// SPDX-License-Identifier: Apache-2.0
//
// Measures dirty tracking by itself: no kernel, no guest's memory. `tools/bench --help` explains each figure.

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <stdexcept>

#include "dirty_bench_clock.hpp"
#include "dirty_bench_report.hpp"
#include "dirty_bench_scan.hpp"
#include "dirty_bench_stream.hpp"

namespace {

using namespace tidemark::bench;

constexpr std::size_t evicted_bytes = 96 << 20;  // more than caches hold

report measure(bool with_table) {
  report told;
  const auto memory = memory_of_a_stream();  // first, see there
  told.allocated_bits_per_page = memory.allocated_bits_per_page;
  told.resident_bits_per_page = memory.resident_bits_per_page;
  told.bitmap_bits_per_page = std::max(memory.allocated_bits_per_page, memory.resident_bits_per_page);

  const evictor evict(evicted_bytes);
  told.stream_clean_us = stream_clean_us(evict);
  told.merge_clean_vs_memcpy = merge_clean_vs_memcpy(evict);
  const auto scanned = scan(evict);
  told.scan_vs_memcpy = scanned.vs_memcpy;
  told.scan_vs_naive = scanned.vs_plain;
  told.tell_ms = scanned.tell_ms;
  told.take_ms = scanned.take_ms;
  told.memcpy_ms = scanned.memcpy_ms;
  const auto streamed = scan_by_a_stream(evict);
  told.stream_scan_vs_memcpy = streamed.vs_memcpy;
  told.round_ms = streamed.round_ms;
  told.next_ms = streamed.next_ms;
  told.stream_memcpy_ms = streamed.memcpy_ms;
  if (with_table) told.rows = scan_rows(evict);
  return told;
}

void write(const char* path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  if (!file) throw std::runtime_error(std::string("cannot write ") + path);
}

constexpr const char* usage = "usage: tidemark_dirty_bench [--figures] [--json] [--svg FILE]\n";

}  // namespace

int main(int count, char** arguments) try {
  bool json = false;
  bool table = true;
  const char* svg = nullptr;
  for (int i = 1; i < count; ++i) {
    if (std::strcmp(arguments[i], "--json") == 0) {
      json = true;
    } else if (std::strcmp(arguments[i], "--figures") == 0) {
      table = false;  // but for the figures
    } else if (std::strcmp(arguments[i], "--svg") == 0 && i + 1 < count) {
      svg = arguments[++i];
    } else {
      return std::fputs(usage, stderr), 2;
    }
  }
  const auto told = measure(table);
  std::fputs(as_text(told).c_str(), stdout);
  if (json) std::fputs(as_json(told).c_str(), stdout);
  if (svg != nullptr) write(svg, as_svg(told));
  return 0;
} catch (const std::exception& failure) {
  return std::fprintf(stderr, "tidemark_dirty_bench: %s\n", failure.what()), 1;
}
