// SPDX-License-Identifier: Apache-2.0
//
// What the demo shows: lines for a person, with one that moves while it runs on a terminal; or, with --json, one JSON object
// a line. Everything goes to standard output but the one line of a failure, which for a person goes to standard error.
//
// Threading: one thread at a time.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/migration.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "cli/demo_destination.hpp"
#include "cli/demo_source.hpp"
#include "cli/request.hpp"

namespace tidemark::cli {

class demo_view {
 public:
  explicit demo_view(bool json);

  void begin(const demo_request& request, unsigned group);
  void progress(const migration_progress& now);
  void summary(const source_outcome& source, const std::optional<destination_outcome>& destination);

  void listening(const std::string& host, unsigned port) const;
  void received(const destination_outcome& outcome) const;

  void failed(const error& failure) const;

 private:
  bool due(const migration_progress& now);
  void show_line(const migration_progress& now);
  void leave_line();

  const bool json_;
  const bool terminal_;
  bool line_open_ = false;
  std::uint32_t shown_round_ = 0;
  bool shown_paused_ = false;
  std::uint64_t shown_sent_bytes_ = 0;  // when the last round's line was left
  std::chrono::steady_clock::time_point shown_at_{};
  migration_progress last_;
};

}  // namespace tidemark::cli
