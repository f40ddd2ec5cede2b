// SPDX-License-Identifier: Apache-2.0
//
// The rounds of a migration as its reports tell them.
//
// Invariants
//  1. A round of pre-copy that sent nothing, as one that only decided for the switchover, is none.
//  2. The stop-and-copy is one round to the migration's end, connections that are made anew meanwhile included.
//
// Threading: values.

#pragma once

#include <tidemark/migration.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace tidemark::cli {

struct migration_round {
  std::uint32_t number = 0;  ///< of pre-copy, from 1
  bool stop_and_copy = false;
  std::chrono::nanoseconds began{};
  std::chrono::nanoseconds ended{};
  std::uint64_t dirty_bytes = 0;                     ///< to be sent when it began
  std::uint64_t sent_bytes = 0;                      ///< that arrived while it ran
  std::uint64_t left_bytes = 0;                      ///< not sent when it ended
  std::optional<std::uint64_t> dirtied_bytes_per_s;  ///< while it ran; known when another began

  std::chrono::nanoseconds time() const noexcept { return ended - began; }
  std::uint64_t sent_bytes_per_s() const noexcept;
};

/// "round 3", "stop-and-copy".
std::string name_of(const migration_round& round);

/// Whether the guest stands still for the migration, as far as a report says.
bool is_paused(migration_phase phase) noexcept;

class migration_rounds {
 public:
  /// The round that ended with this report, if one did.
  std::optional<migration_round> add(const migration_progress& now);
  /// The one that is under way, as of the last report.
  const std::optional<migration_round>& under_way() const noexcept { return round_; }
  /// The migration is over, or given up: the round that was under way, if any.
  std::optional<migration_round> close(std::chrono::nanoseconds at);

 private:
  bool is_turn(const migration_progress& now) const noexcept;
  bool stands_still(const migration_progress& now) const noexcept;
  std::optional<migration_round> turn(const migration_progress& now);

  std::optional<migration_round> round_;
  std::uint64_t began_sent_bytes_ = 0;
  std::uint64_t last_sent_bytes_ = 0;
};

}  // namespace tidemark::cli
