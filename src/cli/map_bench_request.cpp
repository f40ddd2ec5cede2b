// SPDX-License-Identifier: Apache-2.0

#include "cli/map_bench_request.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <sstream>
#include <utility>

#include "cli/size.hpp"

namespace tidemark::cli {
namespace {

constexpr std::array all_patterns{map_pattern::regions, map_pattern::viommu,     map_pattern::viommu_depth1,
                                  map_pattern::burst,   map_pattern::burst_each, map_pattern::churn};
constexpr std::string_view stall_word = "stall";
constexpr std::string_view planner_word = "planner";

/// Takes one word of --pattern into the request.
result<void> add_pattern(map_bench_request& request, const std::string& word) {
  const auto found =
      std::find_if(all_patterns.begin(), all_patterns.end(), [&](auto which) { return name_of(which) == word; });
  if (found != all_patterns.end()) {
    request.patterns.push_back(*found);
  } else if (word == stall_word) {
    request.stall = true;
  } else if (word == planner_word) {
    request.planner = true;
  } else {
    return refusal("--pattern: " + in_quotes(word) + " is not known; allowed: all, " + map_pattern_list());
  }
  return {};
}

result<void> choose_patterns(map_bench_request& request, const std::string& list) {
  if (list == "all") {
    request.patterns.assign(all_patterns.begin(), all_patterns.end());
    return {};
  }
  request.stall = request.planner = false;
  std::istringstream words(list + ",");
  for (std::string word; std::getline(words, word, ',');) {
    if (auto done = add_pattern(request, word); !done) return done;
  }
  return {};
}

result<void> check_sizes(const settings& chosen) {
  if (!std::has_single_bit(chosen.bench_map_bytes))
    return refusal("--map-size: " + size_text(chosen.bench_map_bytes) + " is no power of two");
  return {};
}

}  // namespace

std::string map_pattern_list() {
  std::string list;
  for (const auto which : all_patterns) list.append(name_of(which)).append(", ");
  return list.append(stall_word).append(" or ").append(planner_word);
}

result<map_bench_request> map_bench_of(const map_bench_words& given, bool json, settings chosen) {
  map_bench_request request;
  if (auto done = choose_patterns(request, given.pattern); !done) return done.error();
  if (auto done = check_sizes(chosen); !done) return done.error();
  if (chosen.bench_kernel == kernel_choice::host && !given.device)
    return refusal("--kernel linux: which device? add --device, as 'tidemark devices' lists them");
  if (given.svg && given.svg->empty()) return refusal("--svg: which file?");
  request.device = given.device.value_or(std::string(map_bench_model_device));
  request.json = json;
  request.table = given.table || !json;
  request.svg = given.svg.value_or("");
  request.config = std::move(chosen);
  return request;
}

}  // namespace tidemark::cli
