// SPDX-License-Identifier: Apache-2.0
//
// What the patterns of `tidemark bench map` ask for: a list of ranges to map and unmap, the same for the engine and for the
// plain loop beside it. Values and pure functions.

#pragma once

#include <tidemark/error.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "cli/config.hpp"

namespace tidemark::cli {

enum class map_pattern : std::uint8_t {
  regions,        ///< tens of large maps, as a guest's RAM
  viommu,         ///< random pages mapped and unmapped, as a guest's own IOMMU asks for
  viommu_depth1,  ///< the same, each awaited before the next
  burst,          ///< neighbours mapped at once, given in one call
  burst_each,     ///< the same, a call each
  churn,          ///< pages mapped and unmapped while a large map pins
};
std::string_view name_of(map_pattern which) noexcept;

/// Where the benchmark's memory is in the IOVA space: byte n of it at bench_iova + n.
inline constexpr std::uint64_t bench_iova = std::uint64_t{4} << 30;

/// How many neighbours one burst has, if the memory has room for them.
inline constexpr std::uint64_t burst_maps = 512;

/// A range to be mapped, unmapped, or mapped and then unmapped.
struct visit {
  enum class kind : std::uint8_t { map, unmap, both };
  iova_range at;
  kind what = kind::both;
};

/// Visit k is made by client k % in_flight, which makes its visits one after the other; no two clients share a page.
struct phase {
  std::vector<visit> visits;
  iova_range beside;  ///< one map given before all visits and awaited after them; size 0: none
  std::size_t in_flight = 1;
  bool timed = true;
  bool in_one_call = false;  ///< all visits, which are maps, are given together: container::async_apply
  /// The first visit of every client is due when the phase begins. Where a plain loop comes to it later, it was late; else
  /// it asks for the next when it is ready.
  bool at_once = false;
};

struct script {
  std::vector<phase> phases;
  std::uint64_t unit = 0;  ///< mapping::unit of every map
  bool resident = false;   ///< mapping::resident of every map
};

script make_script(map_pattern which, const settings& chosen);

}  // namespace tidemark::cli
