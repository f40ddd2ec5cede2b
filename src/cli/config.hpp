// SPDX-License-Identifier: Apache-2.0
//
// The settings of the tool: the defaults built into it from config/tidemark.toml, then a file, then options, each overriding
// keys of the one before. What keys there are is said once, in keys.cpp.
//
// An error's `detail` is one line for a person: where, what was wrong, what is allowed.
// Threading: values; no shared state.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/migration.hpp>
#include <tidemark/migration_peer.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace tidemark::cli {

struct key;

enum class kernel_choice : std::uint8_t { model, host };   ///< "model" and "linux"
enum class page_kind : std::uint8_t { small, thp, huge };  ///< 4 KiB, transparent huge pages, hugetlbfs
enum class log_level : std::uint8_t { trace, debug, info, warning, error, critical, off };

struct settings {
  // [demo]
  std::uint64_t memory_bytes = 0;       ///< all RAM blocks together
  std::uint64_t blocks = 0;             ///< RAM blocks, all of one size
  std::uint64_t cpu_rate_bytes = 0;     ///< bytes of pages a second
  std::uint64_t device_rate_bytes = 0;  ///< bytes of pages a second
  std::uint64_t region_changes_per_second = 0;
  kernel_choice kernel = kernel_choice::model;
  std::uint64_t seed = 0;
  std::string address;                                ///< HOST:PORT or [HOST]:PORT, checked
  std::optional<std::uint64_t> demo_bandwidth_bytes;  ///< bytes a second; nullopt: unlimited
  // [guest]
  std::uint64_t guest_memory_bytes = 0;
  std::uint64_t guest_cpu_rate_bytes = 0;     ///< bytes of pages a second
  std::uint64_t guest_device_rate_bytes = 0;  ///< bytes of pages a second
  std::uint64_t guest_seed = 0;
  // [migration]
  std::uint64_t downtime_ms = 0;
  std::optional<std::uint64_t> bandwidth_bytes;  ///< bytes a second; nullopt: unlimited
  std::uint64_t rounds_max = 0;
  std::uint64_t batch_pages = 0;
  std::uint64_t channels = 0;
  compression pages = compression::automatic;
  std::string congestion_control;  ///< "auto", or a name, perhaps of none that there is
  std::uint64_t recovery_ms = 0;
  // [identity]
  migration_identity identity;
  // [bench]
  kernel_choice bench_kernel = kernel_choice::model;
  std::uint64_t bench_memory_bytes = 0;
  page_kind bench_pages = page_kind::small;
  std::uint64_t bench_map_bytes = 0;  ///< of one map of a burst
  std::uint64_t bench_in_flight = 0;
  std::uint64_t bench_operations = 0;  ///< maps and unmaps of one run of a pattern
  std::uint64_t bench_held = 0;        ///< mappings held in the container that holds many
  // [log]
  log_level level = log_level::warning;

  /// Where a key was set that does not have its default, for messages: "FILE:LINE:COLUMN" or "--option". By "table.key".
  std::map<std::string, std::string> origins;
};

result<settings> defaults();

/// Takes every key of the TOML file. Nothing is taken when anything in it is wrong.
result<void> override_from(settings& target, const std::string& path);

/// The same from a text; `name` stands for the file in messages.
result<void> override_from_text(settings& target, std::string_view text, const std::string& name);

/// Takes one key as the command line gives it.
result<void> override_from_option(settings& target, const key& which, const std::string& text);

/// What no key can say by itself: whether the keys fit together. To be asked last.
result<void> check(const settings& chosen);

/// A refusal of configuration or command line: EINVAL and the line.
error refusal(std::string line);

}  // namespace tidemark::cli
