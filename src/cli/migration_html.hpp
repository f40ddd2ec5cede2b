// SPDX-License-Identifier: Apache-2.0
//
// A migration as one page to look at: what happened in a sentence, plots over time, the blackout, the rounds, the facts.
//
// The page is whole by itself: style and drawings are in it, nothing is fetched from anywhere. It is well-formed XML, and
// all of it can be read without its script, which only reads off the plots where one points. Colours are the reader's, dark
// or light.
//
// Pure functions; any thread.

#pragma once

#include <string>

#include "cli/migration_record.hpp"

namespace tidemark::cli {

std::string migration_html(const migration_record& record);

/// "8 GiB moved to HOST in 2.31 s; the guest stood still for 14 ms, predicted 13 ms", or why it failed and where the guest
/// is. No markup.
std::string headline(const migration_record& record);

}  // namespace tidemark::cli
