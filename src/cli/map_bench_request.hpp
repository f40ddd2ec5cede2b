// SPDX-License-Identifier: Apache-2.0
//
// Makes a request of `tidemark bench map` of its words. Pure; any thread.

#pragma once

#include <tidemark/error.hpp>

#include <optional>
#include <string>
#include <string_view>

#include "cli/request.hpp"

namespace tidemark::cli {

/// The device that the model's kernel has for it.
inline constexpr std::string_view map_bench_model_device = "0000:00:04.0";

/// As they stand on the command line.
struct map_bench_words {
  std::optional<std::string> device;
  std::string pattern = "all";
  std::optional<std::string> svg;
  bool table = false;
};

result<map_bench_request> map_bench_of(const map_bench_words& given, bool json, settings chosen);

/// Those that --pattern may name: "regions, viommu, ... or planner".
std::string map_pattern_list();

}  // namespace tidemark::cli
