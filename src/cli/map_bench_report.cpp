// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <cmath>

#include "cli/map_bench_report.hpp"

namespace tidemark::cli {
namespace {

double seconds(nanoseconds time) { return std::chrono::duration<double>(std::max(time, nanoseconds{1})).count(); }

/// The smallest sample that `share` of all samples are not above, in microseconds.
double percentile_us(const std::vector<std::uint64_t>& ascending, double share) {
  if (ascending.empty()) return 0;
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(ascending.size())));
  return static_cast<double>(ascending[std::clamp<std::size_t>(rank, 1, ascending.size()) - 1]) / 1e3;
}

}  // namespace

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto half = values.size() / 2;
  return values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2;
}

double median_us(const std::vector<nanoseconds>& times) {
  std::vector<double> us;
  for (const auto time : times) us.push_back(static_cast<double>(time.count()) / 1e3);
  return median_of(std::move(us));
}

side_summary summarise(const std::vector<measured>& runs) {
  side_summary all;
  std::vector<std::uint64_t> latencies;
  std::vector<double> rates;
  double operations = 0;
  double ioctls = 0;
  for (const auto& run : runs) {
    rates.push_back(static_cast<double>(run.operations) / seconds(run.elapsed));
    latencies.insert(latencies.end(), run.latency_ns.begin(), run.latency_ns.end());
    operations += static_cast<double>(run.operations);
    ioctls += static_cast<double>(run.ioctls);
  }
  std::sort(latencies.begin(), latencies.end());
  all.operations_per_s = median_of(std::move(rates));
  all.p50_us = percentile_us(latencies, 0.5);
  all.p99_us = percentile_us(latencies, 0.99);
  all.p999_us = percentile_us(latencies, 0.999);
  all.ioctls_per_operation = ioctls / std::max(operations, 1.0);
  return all;
}

pattern_report compare(map_pattern which, const std::vector<measured>& engine, const std::vector<measured>& plain) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < engine.size(); ++i) ratios.push_back(seconds(engine[i].elapsed) / seconds(plain[i].elapsed));
  return {which, engine.front().operations, summarise(engine), summarise(plain), median_of(std::move(ratios))};
}

}  // namespace tidemark::cli
