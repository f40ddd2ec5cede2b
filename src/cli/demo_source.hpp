// SPDX-License-Identifier: Apache-2.0
//
// The source half of the demo. Threading: blocks its caller until the migration is over; starts its own threads and ends
// them.

#pragma once

#include <tidemark/dirty_statistics.hpp>
#include <tidemark/error.hpp>
#include <tidemark/migration.hpp>

#include <string>

#include "cli/request.hpp"
#include "cli/synthetic_guest.hpp"

namespace tidemark::cli {

class demo_view;

struct source_outcome {
  migration_summary migration;
  guest_activity activity;
  dirty_statistics dirty;
  std::uint64_t memory_peak_bytes = 0;
};

/// Migrates a demo guest to the destination that listens at `address`.
result<source_outcome> run_source(const demo_request& request, const std::string& address, demo_view& view);

}  // namespace tidemark::cli
