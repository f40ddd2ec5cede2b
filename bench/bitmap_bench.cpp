// SPDX-License-Identifier: Apache-2.0
//
// Bitmaps of dirty pages of a guest too large for any cache, next to memcpy of the same bytes in the same run. Each figure
// is a median; memory is resident before it is timed; rates and ratios are counters.
//   stream_clean             taking the runs of a clean guest of 8 TiB, to its end
//   merge_clean_vs_memcpy    merging three sources of 1 TiB that have nothing to tell
//   scan_vs_memcpy/N         three sources of 1 TiB, each with N of 10000 pages dirty, scattered: merging them and taking
//                            all runs in batches of 4096; also told in shares, where each dirty page has one source
//   scan_vs_naive/N          the same next to the obvious loop, which tests each bit
//   walk/N                   next_run over 64 GiB with N of 10000 pages dirty
// "vs": how many times as fast as that it is.

#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "core/bitmap.hpp"

namespace {

using tidemark::page_run;
using tidemark::core::bitmap;
using tidemark::core::words_for;

constexpr std::uint64_t pages_of(std::uint64_t gibibytes) { return (gibibytes << 30) / tidemark::page_bytes; }

constexpr std::uint64_t pages = pages_of(1024);
constexpr std::size_t batch_runs = 4096;
// Of each source, merged and taken before the next, so that the union's part stays near the processor.
constexpr std::uint64_t slice_words = (64 << 10) / sizeof(std::uint64_t);

using source = std::vector<std::uint64_t>;
using sources = std::array<source, 3>;

void dirty_at_random(source& bits, std::uint64_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto page = random() % pages;
    bits[page / 64] |= std::uint64_t{1} << (page % 64);
  }
}

sources make_sources(std::uint64_t dirty_each) {
  sources made;
  for (std::size_t i = 0; i < made.size(); ++i) {
    made[i].assign(words_for(pages), 0);
    dirty_at_random(made[i], dirty_each, i + 1);
  }
  return made;
}

class copy_of {
 public:
  explicit copy_of(const sources& from) : from_(from), to_(from) {}
  void operator()() {
    for (std::size_t i = 0; i < from_.size(); ++i)
      std::memcpy(to_[i].data(), from_[i].data(), from_[i].size() * sizeof(std::uint64_t));
    benchmark::ClobberMemory();
  }

 private:
  const sources& from_;
  sources to_;
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Of this thread's processor: the machine may be shared.
double thread_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

template <class Work>
double seconds_of(Work& work) {
  const auto start = thread_seconds();
  work();
  return thread_seconds() - start;
}

/// Times `ours` and `other` in turn.
template <class Ours, class Other>
void compare(benchmark::State& state, Ours ours, Other other) {
  std::vector<double> our_seconds;
  std::vector<double> other_seconds;
  ours();
  for (auto _ : state) {
    other_seconds.push_back(seconds_of(other));
    our_seconds.push_back(seconds_of(ours));
    state.SetIterationTime(our_seconds.back());
  }
  state.counters["ms"] = median(our_seconds) * 1e3;
  state.counters["other_ms"] = median(other_seconds) * 1e3;
  state.counters["vs"] = median(other_seconds) / median(our_seconds);
}

std::uint64_t take_all(bitmap& dirty, std::uint64_t from, std::uint64_t end, std::span<page_run> batch) {
  std::uint64_t found = 0;
  while (from < end) {
    const auto taken = dirty.take_runs(0, from, dirty.size(), batch);
    benchmark::DoNotOptimize(batch.data());
    benchmark::ClobberMemory();
    found += taken.bits;
    from = taken.next;
  }
  return found;
}

void stream_clean(benchmark::State& state) {
  bitmap clean(pages_of(8 << 10));
  std::vector<page_run> batch(batch_runs);
  for (auto _ : state) benchmark::DoNotOptimize(take_all(clean, 0, clean.size(), batch));
}
BENCHMARK(stream_clean)->Unit(benchmark::kMicrosecond);

void merge_clean_vs_memcpy(benchmark::State& state) {
  const auto clean = make_sources(0);
  bitmap dirty(pages);
  compare(
      state,
      [&] {
        for (const auto& bits : clean) benchmark::DoNotOptimize(dirty.merge(0, pages, bits));
      },
      copy_of(clean));
}
BENCHMARK(merge_clean_vs_memcpy)->UseManualTime()->Iterations(21)->Unit(benchmark::kMillisecond);

/// Merges all sources and takes all that they told, slice by slice.
class scan_of {
 public:
  explicit scan_of(const sources& from) : from_(from), dirty_(pages), batch_(batch_runs) {}
  void operator()() {
    std::uint64_t found = 0;
    for (std::uint64_t word = 0; word < words_for(pages); word += slice_words) {
      for (const auto& bits : from_) dirty_.merge(word * 64, slice_words * 64, std::span(bits).subspan(word, slice_words));
      found += take_all(dirty_, word * 64, (word + slice_words) * 64, batch_);
    }
    benchmark::DoNotOptimize(found);
  }

 private:
  const sources& from_;
  bitmap dirty_;
  std::vector<page_run> batch_;
};

class naive_scan_of {
 public:
  explicit naive_scan_of(const sources& from) : from_(from) { batch_.reserve(batch_runs); }
  void operator()() {
    std::uint64_t found = 0;
    batch_.clear();
    for (std::uint64_t page = 0; page < pages; ++page) {
      const auto at = page / 64;
      if (((from_[0][at] | from_[1][at] | from_[2][at]) >> (page % 64) & 1) == 0) continue;
      ++found;
      if (!batch_.empty() && batch_.back().first_page + batch_.back().pages == page) {
        ++batch_.back().pages;
        continue;
      }
      if (batch_.size() == batch_runs) batch_.clear();
      batch_.push_back({0, page, 1});
    }
    benchmark::DoNotOptimize(found);
  }

 private:
  const sources& from_;
  std::vector<page_run> batch_;
};

std::uint64_t of_pages(std::int64_t in_ten_thousand) { return pages * static_cast<std::uint64_t>(in_ten_thousand) / 10000; }

void scan_vs_memcpy(benchmark::State& state) {
  const auto from = make_sources(of_pages(state.range(0)));
  compare(state, scan_of(from), copy_of(from));
}
BENCHMARK(scan_vs_memcpy)
    ->Arg(0)
    ->Arg(1)
    ->Arg(10)
    ->Arg(100)
    ->Arg(1000)
    ->UseManualTime()
    ->Iterations(21)
    ->Unit(benchmark::kMillisecond);

void scan_in_shares_vs_memcpy(benchmark::State& state) {
  const auto from = make_sources(of_pages(state.range(0)) / 3);
  compare(state, scan_of(from), copy_of(from));
}
BENCHMARK(scan_in_shares_vs_memcpy)->Arg(100)->UseManualTime()->Iterations(21)->Unit(benchmark::kMillisecond);

void scan_vs_naive(benchmark::State& state) {
  const auto from = make_sources(of_pages(state.range(0)));
  compare(state, scan_of(from), naive_scan_of(from));
}
BENCHMARK(scan_vs_naive)->Arg(100)->UseManualTime()->Iterations(5)->Unit(benchmark::kMillisecond);

void walk(benchmark::State& state) {
  bitmap dirty(pages_of(64));
  std::mt19937_64 random(1);
  for (std::uint64_t i = 0; i < dirty.size() * static_cast<std::uint64_t>(state.range(0)) / 10000; ++i)
    dirty.set(random() % dirty.size(), 1);
  for (auto _ : state) {
    std::uint64_t found = 0;
    for (auto run = dirty.next_run(0, dirty.size()); run.length != 0;
         run = dirty.next_run(run.first + run.length, dirty.size()))
      found += run.length;
    benchmark::DoNotOptimize(found);
  }
}
BENCHMARK(walk)->Arg(0)->Arg(10)->Arg(100)->Arg(10000)->Unit(benchmark::kMicrosecond);

}  // namespace
