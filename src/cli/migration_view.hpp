// SPDX-License-Identifier: Apache-2.0
//
// What is shown of a migration while it runs: lines for a person, one a round that ended, with one below them that moves
// while it runs on a terminal; or one JSON object a line. Everything goes to standard output but the one line of a failure,
// which for a person goes to standard error.
//
// Reports may come as often as they like: how often something is shown goes by the time they tell.
//
// Threading: one thread at a time.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/migration.hpp>

#include <boost/json/object.hpp>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/migration_forecast.hpp"
#include "cli/migration_rounds.hpp"

namespace tidemark::cli {

/// Where the lines go.
struct view_output {
  std::function<void(std::string_view)> write;     ///< as it is, at once
  std::function<void(std::string_view)> complain;  ///< the same to standard error
  std::function<unsigned()> columns;               ///< of the terminal now, 0 when it does not say; empty: it is no terminal
};

view_output standard_output();

/// What a program tells of its own at the end, below what all migrations tell.
struct own_summary {
  std::vector<std::pair<std::string, std::string>> rows;
  boost::json::object fields;
};

class migration_view {
 public:
  migration_view(bool json, std::chrono::nanoseconds downtime_target, view_output output = standard_output());

  void progress(const migration_progress& now);
  /// The last line is "identical" when the memory was compared.
  void summary(const migration_summary& done, const own_summary& own = {});
  /// With fields of the program's own.
  void failed(const error& failure, const boost::json::object& own = {});

  /// A line, or an event, of the program's own.
  void put(const std::string& line);
  void put(const boost::json::object& event);

 private:
  bool is_terminal() const noexcept { return !json_ && output_.columns != nullptr; }
  bool is_due(const migration_progress& now) const noexcept;
  std::chrono::nanoseconds pause(const migration_progress& now) const noexcept;
  void show(const migration_progress& now);
  void move_line(const std::string& text);
  void end_line();

  const bool json_;
  const std::chrono::nanoseconds downtime_target_;
  const view_output output_;
  migration_rounds rounds_;
  std::optional<migration_progress> shown_;  // the last report that was
  bool line_open_ = false;
};

/// "  round 1        sent 1.00 GiB in 2.61 s  bandwidth  402 MiB/s  dirtied 84.1 MiB/s  remaining  219 MiB"
std::string line_of(const migration_round& ended, std::uint64_t remaining_bytes);
/// How far it is, without what does not fit the columns; 0: all of it.
std::string line_of(const migration_progress& now, const forecast& when, unsigned columns);
/// "14 ms, predicted 13 ms (pause 1.0 ms, sync 2.0 ms, send 9.0 ms, hand over 2.0 ms)"
std::string blackout_words(const migration_summary& done);

}  // namespace tidemark::cli
