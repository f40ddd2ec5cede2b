// SPDX-License-Identifier: Apache-2.0
//
// What the engine adds to an ioctl: maps and unmaps on a kernel that does nothing.
//   raw          a plain loop of the same calls
//   batch/N      N maps submitted at once and awaited, then their unmaps: through a container, its lane's thread and back
//   held/N       batches of 64 in a container that holds N mappings

#include <benchmark/benchmark.h>

#include "cli/map_bench_planner.hpp"
#include "ring/uring_loop.hpp"

namespace {

using namespace tidemark;

constexpr std::size_t batch_size = 64;

void raw(benchmark::State& state) {
  cli::null_kernel kernel;
  for (auto _ : state) cli::null_batch_plainly(kernel, batch_size);
  state.SetItemsProcessed(state.iterations() * 2 * static_cast<std::int64_t>(batch_size));
}
BENCHMARK(raw);

ring::task<> batches(benchmark::State& state, ring::uring_loop& loop, std::uint64_t held, std::size_t size) {
  {
    cli::null_side side(loop);
    if (auto filled = co_await side.hold(held); !filled) state.SkipWithError(filled.error().message().c_str());
    for (auto _ : state) {
      if (auto done = co_await side.batch(size); !done) state.SkipWithError(done.error().message().c_str());
    }
  }
  state.SetItemsProcessed(state.iterations() * 2 * static_cast<std::int64_t>(size));
  loop.stop();
}

void run(benchmark::State& state, std::uint64_t held, std::size_t size) {
  auto loop = ring::uring_loop::make();
  if (!loop) return state.SkipWithError(loop.error().message().c_str());
  ring::start(batches(state, **loop, held, size));
  if (!(*loop)->run()) state.SkipWithError("the loop ended early");
}

void batch(benchmark::State& state) { run(state, 0, static_cast<std::size_t>(state.range(0))); }
BENCHMARK(batch)->Arg(1)->Arg(64)->Arg(512)->UseRealTime();

void held(benchmark::State& state) { run(state, static_cast<std::uint64_t>(state.range(0)), batch_size); }
BENCHMARK(held)->Arg(1000)->Arg(1000000)->UseRealTime();

}  // namespace
