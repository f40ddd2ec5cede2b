// SPDX-License-Identifier: Apache-2.0
//
// Walking a bitmap of dirty pages to its end, by how many of its pages are dirty, next to memcpy of the same bytes.
//   walk/N   runs of dirty pages of 64 GiB, N of 10000 pages dirty, scattered
//   copy     memcpy of the bitmap

#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <vector>

#include "core/bitmap.hpp"

namespace {

using tidemark::core::bitmap;

constexpr std::uint64_t pages = (std::uint64_t{64} << 30) / 4096;
constexpr auto bytes = static_cast<std::int64_t>(pages / 8);

void walk(benchmark::State& state) {
  bitmap dirty(pages);
  std::mt19937_64 random(1);
  for (std::uint64_t i = 0; i < pages * static_cast<std::uint64_t>(state.range(0)) / 10000; ++i)
    dirty.set(random() % pages, 1);
  for (auto _ : state) {
    std::uint64_t found = 0;
    for (auto run = dirty.next_run(0, pages); run.length != 0; run = dirty.next_run(run.first + run.length, pages))
      found += run.length;
    benchmark::DoNotOptimize(found);
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}
BENCHMARK(walk)->Arg(0)->Arg(10)->Arg(100)->Arg(10000);

void copy(benchmark::State& state) {
  const std::vector<std::uint64_t> from(pages / 64, 1);
  std::vector<std::uint64_t> to(pages / 64);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size() * sizeof from[0]);
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * bytes);
}
BENCHMARK(copy);

}  // namespace
