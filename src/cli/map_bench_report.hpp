// SPDX-License-Identifier: Apache-2.0
//
// What `tidemark bench map` measured, and how it is told: as a table, as JSON, as a picture. Values and pure functions.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/map_bench_script.hpp"
#include "cli/request.hpp"

namespace tidemark::cli {

using nanoseconds = std::chrono::nanoseconds;

/// One run of a script: the timed phases of it.
struct measured {
  nanoseconds elapsed{0};
  std::uint64_t operations = 0;
  std::uint64_t ioctls = 0;               ///< maps and unmaps that reached the kernel
  std::vector<std::uint64_t> latency_ns;  ///< of each operation, but that of phase::beside
};

/// All runs of one side. Throughput is that of the run in the middle; percentiles are those of the latencies of all runs.
struct side_summary {
  double operations_per_s = 0;
  double p50_us = 0;
  double p99_us = 0;
  double p999_us = 0;
  double ioctls_per_operation = 0;
};
side_summary summarise(const std::vector<measured>& runs);

struct pattern_report {
  map_pattern which = map_pattern::regions;
  std::uint64_t operations = 0;  ///< of one run
  side_summary engine;
  side_summary plain;
  double time_vs_plain = 0;  ///< the engine's time for the plain loop's, run by run, the middle of these
};
pattern_report compare(map_pattern which, const std::vector<measured>& engine, const std::vector<measured>& plain);

/// How long the loop stood still at most while memory was pinned, turn by turn. What is told is the middle of the turns: the
/// host's own stalls hit one of them sooner or later.
struct stall_report {
  std::vector<nanoseconds> engine;
  std::vector<nanoseconds> in_place;    ///< while pages were mapped on the loop itself, as many at a time as it may
  std::vector<nanoseconds> idle;        ///< while nothing was done for as long: what the host adds
  std::vector<nanoseconds> beside;      ///< while a thread of its own made the ioctl: what the host adds when it is busy
  std::vector<nanoseconds> plain_pin;   ///< how long it was in the ioctl, which is what a plain loop stands still
  std::vector<nanoseconds> engine_pin;  ///< from the request to its completion
};
double median_us(const std::vector<nanoseconds>& times);

/// Of a kernel that does nothing.
struct planner_report {
  double raw_ns_per_op = 0;
  double engine_ns_per_op = 0;  ///< in batches of 64, nothing held
  double few_ns_per_op = 0;     ///< with few_held mappings held; this and the next with all threads on one processor
  double many_ns_per_op = 0;    ///< with bench_held of them
  double bytes_per_mapping = 0;
};

struct map_report {
  map_bench_request request;
  std::string device;
  std::vector<pattern_report> patterns;  ///< those that were asked for
  std::optional<stall_report> stall;
  std::optional<planner_report> planner;
};

std::string as_text(const map_report& report);
std::string as_json(const map_report& report);  ///< one line
std::string as_svg(const map_report& report);

/// The middle one; the mean of both where two are in the middle. Not empty.
double median_of(std::vector<double> values);

}  // namespace tidemark::cli
