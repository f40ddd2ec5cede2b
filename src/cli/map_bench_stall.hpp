// SPDX-License-Identifier: Apache-2.0
//
// How long a loop stands still while memory is pinned: a timer on the loop comes ten thousand times a second, and the
// longest time between two of its turns is what anything else on the loop had to wait.
//
// Threading: the loop's thread.

#pragma once

#include <tidemark/error.hpp>

#include "cli/map_bench_engine.hpp"
#include "cli/map_bench_memory.hpp"
#include "cli/map_bench_plain.hpp"
#include "cli/map_bench_report.hpp"
#include "ring/task.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::cli {

struct watched_pin {
  nanoseconds longest_gap{0};
  nanoseconds pin{0};
};

/// Maps `memory` through the engine, as one mapping, while the timer goes; then unmaps it.
ring::task<result<watched_pin>> pin_watched(ring::uring_loop& loop, engine_side& engine, const bench_memory& memory);

/// The same with the ioctl alone, made on a thread that has nothing to do with the loop. What the loop stands still then is
/// the host's doing: no engine can do better there.
ring::task<result<watched_pin>> pin_watched(ring::uring_loop& loop, plain_side& plain, const bench_memory& memory);

/// The gap while pages are mapped and unmapped as `what` says, which the engine does on the loop itself as far as it may.
ring::task<result<nanoseconds>> gap_beside(ring::uring_loop& loop, engine_side& engine, const script& what,
                                           const bench_memory& memory);

/// The gap while nothing is done.
ring::task<nanoseconds> longest_idle_gap(ring::uring_loop& loop, nanoseconds duration);

}  // namespace tidemark::cli
