// SPDX-License-Identifier: Apache-2.0

#include "cli/map_bench_stall.hpp"

#include <algorithm>

#include "ring/await.hpp"
#include "ring/executor.hpp"
#include "ring/offload.hpp"

namespace tidemark::cli {

using ring::resume_on;
using ring::task;

namespace {

constexpr std::chrono::microseconds between_ticks{100};

/// Ticks from start() until stop() has come back.
class ticker {
 public:
  explicit ticker(ring::uring_loop& loop) : loop_(loop), last_(loop.now()) {}

  void start() { ring::start(tick()); }

  task<nanoseconds> stop() {
    stop_asked_ = true;
    co_await ended_;
    co_return longest_;
  }

 private:
  task<> tick() {
    ring::timer timer(loop_);
    while (!stop_asked_) {
      co_await timer.until(last_ + between_ticks);
      const auto now = loop_.now();
      longest_ = std::max(longest_, nanoseconds(now - last_));
      last_ = now;
    }
    ended_.count_down();
  }

  ring::uring_loop& loop_;
  ring::clock::time_point last_;
  nanoseconds longest_{0};
  bool stop_asked_ = false;
  ring::latch ended_{1};
};

iova_range all_of(const bench_memory& memory) { return {bench_iova, memory.size()}; }

result<nanoseconds> timed_map(plain_side& plain, const bench_memory& memory) {
  const auto began = ring::clock::now();
  if (const int answer = plain.map(all_of(memory), memory.host()); answer < 0)
    return kernel_error(operation::map, -answer, all_of(memory));
  return nanoseconds(ring::clock::now() - began);
}

}  // namespace

task<result<watched_pin>> pin_watched(ring::uring_loop& loop, engine_side& engine, const bench_memory& memory) {
  const any_io_executor here = loop.get_executor();
  watched_pin seen;
  mapping all;
  all.at = all_of(memory);
  all.host = memory.host();
  ticker ticks(loop);
  ticks.start();
  const auto began = loop.now();
  const auto mapped = co_await engine.space().async_map(all, resume_on{here});
  seen.pin = loop.now() - began;
  seen.longest_gap = co_await ticks.stop();
  if (!mapped) co_return mapped.error();
  const auto unmapped = co_await engine.space().async_unmap(all.at, resume_on{here});
  if (!unmapped) co_return unmapped.error();
  co_return seen;
}

task<result<watched_pin>> pin_watched(ring::uring_loop& loop, plain_side& plain, const bench_memory& memory) {
  ticker ticks(loop);
  ticks.start();
  const auto pin = co_await ring::offload(thread_workers(), loop.get_executor(), [&] { return timed_map(plain, memory); });
  const auto longest_gap = co_await ticks.stop();
  if (!pin) co_return pin.error();
  if (const int answer = plain.unmap(all_of(memory)); answer < 0)
    co_return kernel_error(operation::unmap, -answer, all_of(memory));
  co_return watched_pin{longest_gap, *pin};
}

task<result<nanoseconds>> gap_beside(ring::uring_loop& loop, engine_side& engine, const script& what,
                                     const bench_memory& memory) {
  ticker ticks(loop);
  ticks.start();
  const auto played = co_await engine.play(what, memory.host());
  const auto gap = co_await ticks.stop();
  if (!played) co_return played.error();
  co_return gap;
}

task<nanoseconds> longest_idle_gap(ring::uring_loop& loop, nanoseconds duration) {
  ticker ticks(loop);
  ticks.start();
  ring::timer timer(loop);
  co_await timer.until(loop.now() + duration);
  co_return co_await ticks.stop();
}

}  // namespace tidemark::cli
