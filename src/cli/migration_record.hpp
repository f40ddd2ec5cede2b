// SPDX-License-Identifier: Apache-2.0
//
// What is kept of a migration to look at it afterwards: how far it was at which time, its rounds and phases, what came out.
//
// Invariants
//  1. However long the migration takes, the record is bounded: of reports, rounds, spans and recoveries it keeps so many at
//  most, spread evenly over the time.
//  2. Times are since the migration began, and no span is later than end().
//
// Threading: values.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/migration.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/migration_rounds.hpp"
#include "cli/thinned.hpp"

namespace tidemark::cli {

/// What was to be migrated, and where to. Texts may be empty: then nothing is said of them.
struct migration_subject {
  std::string target;  ///< as it was asked for
  std::string source_host;
  std::string destination_host;
  std::string began;  ///< the time, as a person is to read it
  unsigned channels = 0;
  migration_options options;
  std::vector<block_description> blocks;
};

/// A while in which the phase was the same.
struct phase_span {
  migration_phase phase = migration_phase::connecting;
  std::chrono::nanoseconds began{};
  std::chrono::nanoseconds ended{};
};

class migration_record {
 public:
  static constexpr std::size_t samples_default = 2000;
  static constexpr std::size_t rounds_most = 1000;
  static constexpr std::size_t marks_most = 500;

  explicit migration_record(migration_subject what = {}, std::size_t samples_most = samples_default);

  void add(const migration_progress& now);
  void finish(const migration_summary& done);
  void fail(const error& failure);

  const migration_subject& what() const noexcept { return what_; }
  /// The last of them is the last report.
  const std::vector<migration_progress>& samples() const noexcept { return samples_.values(); }
  /// Those that ended; after finish() or fail() all of them.
  const std::vector<migration_round>& rounds() const noexcept { return rounds_.values(); }
  std::uint64_t rounds_seen() const noexcept { return rounds_.seen(); }
  /// Phases but the last, which has not ended before finish() or fail().
  const std::vector<phase_span>& phases() const noexcept { return phases_.values(); }
  /// When connections that had broken were there again.
  const std::vector<std::chrono::nanoseconds>& recoveries() const noexcept { return recoveries_.values(); }
  unsigned recoveries_seen() const noexcept { return last_.recoveries; }
  unsigned throttle_most_percent() const noexcept { return throttle_most_percent_; }
  const migration_progress& last() const noexcept { return last_; }

  const std::optional<migration_summary>& summary() const noexcept { return summary_; }
  const std::optional<error>& failure() const noexcept { return failure_; }

  std::chrono::nanoseconds end() const noexcept;
  /// Of all RAM blocks, from whoever said it.
  std::uint64_t total_bytes() const noexcept;

 private:
  void note_phase(const migration_progress& now);
  void close();

  migration_subject what_;
  thinned<migration_progress> samples_;
  thinned<migration_round> rounds_{rounds_most};
  thinned<phase_span> phases_{marks_most};
  thinned<std::chrono::nanoseconds> recoveries_{marks_most};
  migration_rounds turns_;
  std::optional<phase_span> phase_;
  migration_progress last_;
  unsigned throttle_most_percent_ = 0;
  std::optional<migration_summary> summary_;
  std::optional<error> failure_;
};

}  // namespace tidemark::cli
