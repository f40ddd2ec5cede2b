// SPDX-License-Identifier: Apache-2.0

#include <array>
#include <cmath>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "cli/map_bench_report.hpp"
#include "cli/size.hpp"
#include "core/formatted.hpp"

namespace tidemark::cli {
namespace {

namespace json = boost::json;

constexpr std::array<std::string_view, 2> kernel_words{"model", "linux"};
constexpr std::array<std::string_view, 3> page_words{"small", "thp", "huge"};

std::string_view word_of(kernel_choice kernel) { return kernel_words[static_cast<std::size_t>(kernel)]; }
std::string_view word_of(page_kind pages) { return page_words[static_cast<std::size_t>(pages)]; }

/// Four digits are more than a measurement is worth, and what a reader takes in.
double rounded(double value) {
  if (value == 0 || !std::isfinite(value)) return 0;
  const double scale = std::pow(10, 3 - std::floor(std::log10(std::abs(value))));
  return std::round(value * scale) / scale;
}

std::string heading(const map_report& report) {
  const auto& chosen = report.request.config;
  return core::formatted("%s kernel, device %s, %s in %s pages, %llu in flight\n",
                         std::string(word_of(chosen.bench_kernel)).c_str(), report.device.c_str(),
                         size_text(chosen.bench_memory_bytes).c_str(), std::string(word_of(chosen.bench_pages)).c_str(),
                         static_cast<unsigned long long>(chosen.bench_in_flight));
}

std::string row(const std::string& pattern, const char* side, const side_summary& s, std::uint64_t operations) {
  return core::formatted("%-14s %-7s %11.0f %10.1f %10.1f %10.1f %11.0f", pattern.c_str(), side, s.operations_per_s,
                         s.p50_us, s.p99_us, s.p999_us, s.ioctls_per_operation * static_cast<double>(operations));
}

std::string rows_of(const pattern_report& p) {
  return row(std::string(name_of(p.which)), "engine", p.engine, p.operations) +
         core::formatted("   time %.2f of plain\n", p.time_vs_plain) + row("", "plain", p.plain, p.operations) +
         core::formatted("   of %llu operations\n", static_cast<unsigned long long>(p.operations));
}

std::string text_of(const stall_report& s) {
  return core::formatted(
             "loop's longest stall while memory is pinned: %.0f us; idle %.0f us; with the ioctl on a bare thread %.0f us\n",
             median_us(s.engine), median_us(s.idle), median_us(s.beside)) +
         core::formatted("loop's longest stall while it maps pages itself, 64 in flight: %.0f us\n", median_us(s.in_place)) +
         core::formatted("pinned in %.0f ms by the engine, in %.0f ms by the ioctl alone\n", median_us(s.engine_pin) / 1e3,
                         median_us(s.plain_pin) / 1e3);
}

std::string text_of(const planner_report& p, std::uint64_t held) {
  return core::formatted("on a kernel that does nothing: %.0f ns an operation in batches of 64 (plain loop %.1f ns);\n",
                         p.engine_ns_per_op, p.raw_ns_per_op) +
         core::formatted("with %llu mappings held %.0f ns, with 1000 held %.0f ns; %.0f bytes a mapping\n",
                         static_cast<unsigned long long>(held), p.many_ns_per_op, p.few_ns_per_op, p.bytes_per_mapping);
}

json::object json_of(const side_summary& s, std::uint64_t operations) {
  return {{"operations_per_s", rounded(s.operations_per_s)},
          {"p50_us", rounded(s.p50_us)},
          {"p99_us", rounded(s.p99_us)},
          {"p999_us", rounded(s.p999_us)},
          {"ioctls", std::llround(s.ioctls_per_operation * static_cast<double>(operations))}};
}

json::object json_of(const pattern_report& p) {
  return {{"pattern", name_of(p.which)},
          {"operations", p.operations},
          {"engine", json_of(p.engine, p.operations)},
          {"plain", json_of(p.plain, p.operations)},
          {"time_vs_plain", rounded(p.time_vs_plain)}};
}

void add_figures(json::object& figures, const pattern_report& p) {
  if (p.which == map_pattern::viommu) figures["viommu_vs_raw"] = rounded(p.time_vs_plain);
  if (p.which == map_pattern::viommu_depth1) figures["viommu_depth1_vs_raw"] = rounded(p.time_vs_plain);
  if (p.which == map_pattern::burst_each) figures["burst_each_vs_raw"] = rounded(1 / p.time_vs_plain);
  if (p.which != map_pattern::burst) return;
  figures["burst_vs_raw"] = rounded(1 / p.time_vs_plain);
  figures["burst_ioctls"] = std::llround(p.engine.ioctls_per_operation * static_cast<double>(burst_maps));
}

json::array us_of(const std::vector<nanoseconds>& times) {
  json::array all;
  for (const auto time : times) all.push_back(rounded(static_cast<double>(time.count()) / 1e3));
  return all;
}

json::value json_of(const std::optional<stall_report>& stall) {
  if (!stall) return nullptr;
  return json::object{{"engine_us", us_of(stall->engine)},
                      {"in_place_us", us_of(stall->in_place)},
                      {"idle_us", us_of(stall->idle)},
                      {"beside_us", us_of(stall->beside)},
                      {"engine_pin_us", us_of(stall->engine_pin)},
                      {"plain_pin_us", us_of(stall->plain_pin)}};
}

json::value json_of(const std::optional<planner_report>& planner) {
  if (!planner) return nullptr;
  return json::object{{"plain_ns_per_op", rounded(planner->raw_ns_per_op)},
                      {"engine_ns_per_op", rounded(planner->engine_ns_per_op)},
                      {"few_held_ns_per_op", rounded(planner->few_ns_per_op)},
                      {"many_held_ns_per_op", rounded(planner->many_ns_per_op)}};
}

/// All of them, null where what they come from was not asked for.
json::object figures_of(const map_report& report) {
  json::object figures{{"overhead_ns_per_op", nullptr},
                       {"viommu_vs_raw", nullptr},
                       {"viommu_depth1_vs_raw", nullptr},
                       {"burst_vs_raw", nullptr},
                       {"burst_ioctls", nullptr},
                       {"burst_each_vs_raw", nullptr},
                       {"loop_stall_us_p100", nullptr},
                       {"loop_stall_idle_us_p100", nullptr},
                       {"loop_stall_in_place_us_p100", nullptr},
                       {"plan_scale", nullptr},
                       {"bytes_per_mapping", nullptr}};
  for (const auto& p : report.patterns) add_figures(figures, p);
  if (report.stall) {
    figures["loop_stall_us_p100"] = rounded(median_us(report.stall->engine));
    figures["loop_stall_idle_us_p100"] = rounded(median_us(report.stall->idle));
    figures["loop_stall_in_place_us_p100"] = rounded(median_us(report.stall->in_place));
  }
  if (report.planner) {
    const auto& p = *report.planner;
    figures["overhead_ns_per_op"] = rounded(p.engine_ns_per_op - p.raw_ns_per_op);
    figures["plan_scale"] = rounded(p.many_ns_per_op / p.few_ns_per_op);
    figures["bytes_per_mapping"] = rounded(p.bytes_per_mapping);
  }
  return figures;
}

}  // namespace

std::string as_text(const map_report& report) {
  auto text = heading(report);
  if (!report.patterns.empty())
    text += core::formatted("%-14s %-7s %11s %10s %10s %10s %11s\n", "PATTERN", "BY", "OPS/S", "P50 us", "P99 us",
                            "P99.9 us", "IOCTLS");
  for (const auto& p : report.patterns) text += rows_of(p);
  if (report.stall) text += text_of(*report.stall);
  if (report.planner) text += text_of(*report.planner, report.request.config.bench_held);
  return text;
}

std::string as_json(const map_report& report) {
  const auto& chosen = report.request.config;
  json::array patterns;
  for (const auto& p : report.patterns) patterns.push_back(json_of(p));
  return json::serialize(json::object{{"kernel", word_of(chosen.bench_kernel)},
                                      {"device", report.device},
                                      {"memory_bytes", chosen.bench_memory_bytes},
                                      {"pages", word_of(chosen.bench_pages)},
                                      {"in_flight", chosen.bench_in_flight},
                                      {"patterns", std::move(patterns)},
                                      {"stall", json_of(report.stall)},
                                      {"planner", json_of(report.planner)},
                                      {"figures", figures_of(report)}}) +
         "\n";
}

}  // namespace tidemark::cli
