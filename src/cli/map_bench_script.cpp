// SPDX-License-Identifier: Apache-2.0

#include "cli/map_bench_script.hpp"

#include <algorithm>
#include <random>

#include "cli/keys.hpp"

namespace tidemark::cli {
namespace {

constexpr std::uint64_t regions_of_a_guest = 32;
constexpr std::uint64_t unit_bytes = std::uint64_t{2} << 20;

/// Neighbours of one size from the start of the memory on.
phase all_at_once(visit::kind what, std::uint64_t count, std::uint64_t bytes) {
  phase made;
  for (std::uint64_t i = 0; i < count; ++i) made.visits.push_back({{bench_iova + i * bytes, bytes}, what});
  made.in_flight = count;
  made.at_once = true;
  return made;
}

/// Random pages of [first, first + bytes), each mapped and unmapped. The same in every run.
phase random_pages(std::uint64_t first, std::uint64_t bytes, std::uint64_t visits, std::uint64_t in_flight) {
  phase made;
  made.in_flight = in_flight;
  std::mt19937_64 random(1);
  const auto pages_each = bytes / page_bytes / in_flight;
  for (std::uint64_t i = 0; i < visits; ++i) {
    const auto page = random() % pages_each * in_flight + i % in_flight;
    made.visits.push_back({{bench_iova + first + page * page_bytes, page_bytes}, visit::kind::both});
  }
  return made;
}

script regions(const settings& chosen) {
  const auto bytes = std::max(chosen.bench_memory_bytes / regions_of_a_guest, unit_bytes);
  const auto count = chosen.bench_memory_bytes / bytes;
  return {{all_at_once(visit::kind::map, count, bytes), all_at_once(visit::kind::unmap, count, bytes)}, 0};
}

script viommu(const settings& chosen, std::uint64_t in_flight) {
  return {{random_pages(0, chosen.bench_memory_bytes, chosen.bench_operations / 2, in_flight)}, 0};
}

// What is unmapped is not timed: it is one call for all, on either side.
script burst(const settings& chosen, bool in_one_call) {
  const auto bytes = chosen.bench_map_bytes;
  const auto count = std::min(burst_maps, chosen.bench_memory_bytes / bytes);
  auto away = all_at_once(visit::kind::unmap, 1, count * bytes);
  away.timed = false;
  script made{{}, unit_bytes};
  for (std::uint64_t done = 0; done < std::max(chosen.bench_operations, count); done += count) {
    made.phases.push_back(all_at_once(visit::kind::map, count, bytes));
    made.phases.back().in_one_call = in_one_call;
    made.phases.push_back(away);
  }
  return made;
}

// Few visits, so that those that came during the large map are more than a percent of them.
script churn(const settings& chosen) {
  const auto small = chosen.bench_memory_bytes / 2;
  const auto large = chosen.bench_memory_bytes - small;
  const auto visits = std::max(chosen.bench_operations / 4, chosen.bench_in_flight);
  auto busy = random_pages(large, small, visits, chosen.bench_in_flight);
  busy.beside = {bench_iova, large};
  busy.at_once = true;
  auto away = all_at_once(visit::kind::unmap, 1, large);
  away.timed = false;
  return {{std::move(busy), std::move(away)}, 0};
}

}  // namespace

std::string_view name_of(map_pattern which) noexcept {
  switch (which) {
    case map_pattern::regions:
      return "regions";
    case map_pattern::viommu:
      return "viommu";
    case map_pattern::viommu_depth1:
      return "viommu_depth1";
    case map_pattern::burst:
      return "burst";
    case map_pattern::burst_each:
      return "burst_each";
    case map_pattern::churn:
      return "churn";
  }
  return "unknown";
}

script make_script(map_pattern which, const settings& chosen) {
  switch (which) {
    case map_pattern::regions:
      return regions(chosen);
    case map_pattern::viommu:
      return viommu(chosen, chosen.bench_in_flight);
    case map_pattern::viommu_depth1:
      return viommu(chosen, 1);
    case map_pattern::burst:
      return burst(chosen, true);
    case map_pattern::burst_each:
      return burst(chosen, false);
    case map_pattern::churn:
      return churn(chosen);
  }
  return {};
}

}  // namespace tidemark::cli
