// SPDX-License-Identifier: Apache-2.0
//
// Work that is not waited for beyond a time.
//
//   bool late = false;
//   auto came = co_await with_deadline(loop, when, {executor}, stream.read(parts), [&] { late = true; stream.close(); });
//
// Threading: whoever awaits it, in `back`; the loop may be another's.

#pragma once

#include "ring/await.hpp"
#include "ring/executor.hpp"
#include "ring/loop.hpp"
#include "ring/task.hpp"

namespace tidemark::ring {

/// What `work` answers. Calls `late`, which is to make it end, if it has not when the loop's time is `when`.
template <class T, class Late>
task<T> with_deadline(loop& by, clock::time_point when, resume_on back, task<T> work, Late late) {
  timer limit(by);  // on the loop only
  latch watched(1);
  bool ended = false;  // when it is late already, but nobody has been told so yet
  const auto wait = [](timer& until, clock::time_point time) -> task<bool> { co_return co_await until.until(time); };
  const auto give_up = [](timer& waiting) -> task<bool> {
    waiting.cancel();
    co_return true;
  };
  const auto watch = [](loop& ticking, task<bool> came, resume_on here, const bool& over, Late& call,
                        latch& done) -> task<> {
    const bool is_late = co_await run_on(ticking.get_executor(), std::move(came), std::move(here));
    if (is_late && !over) call();
    done.count_down();
  };
  start(watch(by, wait(limit, when), back, ended, late, watched));
  auto answer = co_await std::move(work);
  ended = true;
  (void)co_await run_on(by.get_executor(), give_up(limit), back);
  co_await watched;
  co_return answer;
}

}  // namespace tidemark::ring
