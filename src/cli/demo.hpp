// SPDX-License-Identifier: Apache-2.0
//
// `tidemark demo`: the main job. A source process with a device and a CPU that keep dirtying its memory, a destination
// process that takes it over, and a comparison of both.
//
// Threading: called from main(), before any other thread runs. Blocks until the demo is over.

#pragma once

#include "cli/request.hpp"

namespace tidemark::cli {

/// The exit status: 0 only when the migration succeeded and both sides are identical.
int run_demo(const demo_request& request);

}  // namespace tidemark::cli
