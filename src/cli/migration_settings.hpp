// SPDX-License-Identifier: Apache-2.0
//
// What the settings of [migration] say to the engine. Pure; any thread.

#pragma once

#include <tidemark/migration.hpp>

#include <chrono>

#include "cli/config.hpp"

namespace tidemark::cli {

inline migration_options migration_options_of(const settings& chosen) {
  migration_options options;
  options.downtime_target = std::chrono::milliseconds(chosen.downtime_ms);
  options.bandwidth_bytes_per_s = chosen.bandwidth_bytes.value_or(0);
  options.rounds_max = static_cast<std::uint32_t>(chosen.rounds_max);
  options.pages = chosen.pages;
  options.recovery_window = std::chrono::milliseconds(chosen.recovery_ms);
  return options;
}

}  // namespace tidemark::cli
