// SPDX-License-Identifier: Apache-2.0
//
// `tidemark migrate`. Threading: blocks until the migration is over; starts its own threads and ends them.

#pragma once

#include "cli/request.hpp"

namespace tidemark::cli {

/// The exit status.
int run_migrate(const migrate_request& request);

}  // namespace tidemark::cli
