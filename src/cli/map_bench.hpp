// SPDX-License-Identifier: Apache-2.0
//
// `tidemark bench map`: how fast the engine maps and unmaps, beside a plain loop of the same ioctls on the same kernel in
// the same run. Both go through the seam, where they are counted. They take turns, each with a container of its own, since a
// group is in one container at a time; what is told is the middle of several turns.
//
// Threading: called from main(). Blocks until it is over.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>

#include "cli/map_bench_report.hpp"
#include "cli/request.hpp"

namespace tidemark::cli {

/// Whatever it answers, it leaves nothing open or mapped.
result<map_report> measure_maps(kernel::files& kernel, const map_bench_request& request);

/// The command: the exit status.
int run_map_bench(const map_bench_request& request);

}  // namespace tidemark::cli
