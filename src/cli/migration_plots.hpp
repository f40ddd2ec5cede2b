// SPDX-License-Identifier: Apache-2.0
//
// The plots of a migration's page, all over the same time: HTML figures whose lines are SVG stretched to whatever width
// there is, while the text around them keeps its size. Pure functions; any thread.

#pragma once

#include <string>

#include "cli/migration_record.hpp"

namespace tidemark::cli {

/// Nothing when there is nothing to draw.
std::string plots_of(const migration_record& record);

/// The samples as a JSON array of arrays, for the read-outs: milliseconds, then the figures in the order of the plots'
/// `data-value`.
std::string samples_json(const migration_record& record);

}  // namespace tidemark::cli
