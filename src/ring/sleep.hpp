// SPDX-License-Identifier: Apache-2.0
//
// Waits by the time of a loop, from wherever. Threading: goes on in `back`.

#pragma once

#include <chrono>

#include "ring/await.hpp"
#include "ring/executor.hpp"

namespace tidemark::ring {

inline auto sleep(loop& by, std::chrono::nanoseconds time, resume_on back) {
  return run_on(
      by.get_executor(),
      [](loop& ticking, std::chrono::nanoseconds how_long) -> task<bool> {
        timer waiting(ticking);
        co_return co_await waiting.until(ticking.now() + how_long);
      }(by, time),
      std::move(back));
}

}  // namespace tidemark::ring
