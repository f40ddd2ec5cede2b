// SPDX-License-Identifier: Apache-2.0
//
// What the demo shows: its migration, and what was at work meanwhile.
//
// Threading: one thread at a time.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/migration.hpp>

#include <optional>
#include <string>

#include "cli/demo_destination.hpp"
#include "cli/demo_source.hpp"
#include "cli/migration_view.hpp"
#include "cli/request.hpp"

namespace tidemark::cli {

class demo_view {
 public:
  explicit demo_view(const demo_request& request);

  void begin(const demo_request& request, unsigned group);
  void progress(const migration_progress& now) { migration_.progress(now); }
  void summary(const source_outcome& source, const std::optional<destination_outcome>& destination);

  void listening(const std::string& host, unsigned port);
  void received(const destination_outcome& outcome);

  void failed(const error& failure);

 private:
  const bool json_;
  migration_view migration_;
};

}  // namespace tidemark::cli
