// SPDX-License-Identifier: Apache-2.0

#include "cli/map_bench_planner.hpp"

#include <malloc.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "cli/keys.hpp"
#include "ring/await.hpp"
#include "ring/executor.hpp"

namespace tidemark::cli {

using ring::resume_on;
using ring::task;

namespace {

constexpr std::size_t batch_size = 64;
constexpr std::size_t fill_batch_size = 1024;
constexpr int turns = 750;
constexpr int containers = 15;
constexpr int plain_batches = 20;  // of one turn: the clock alone takes as long as a plain batch

double ns_per_op(ring::clock::time_point began, int batches) {
  const auto elapsed = std::chrono::duration<double, std::nano>(ring::clock::now() - began).count();
  return elapsed / (2.0 * static_cast<double>(batch_size) * batches);
}

double plain_turn(kernel::files& kernel) {
  const auto began = ring::clock::now();
  for (int i = 0; i < plain_batches; ++i) null_batch_plainly(kernel, batch_size);
  return ns_per_op(began, plain_batches);
}

/// Bytes that malloc has given out, of all threads.
double heap_bytes() noexcept {
  const auto now = mallinfo2();
  return static_cast<double>(now.uordblks + now.hblkhd);
}

/// A side, and what its batches took. One batch a turn: where the host takes the processor away it hits few of them.
struct measured_side {
  explicit measured_side(ring::uring_loop& loop) : side(loop) {}

  task<result<void>> measure() {
    const auto began = ring::clock::now();
    auto done = co_await side.batch(batch_size);
    ns.push_back(ns_per_op(began, 1));
    co_return done;
  }

  null_side side;
  std::vector<double> ns;
};

/// Keeps this thread, and those it starts meanwhile, on one processor. Batches take twice as long or half, by where the
/// scheduler happens to put a lane's thread; that must not be taken for what a container's mappings cost.
class on_one_processor {
 public:
  on_one_processor() noexcept {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(std::max(sched_getcpu(), 0)), &one);
    restore_ = sched_getaffinity(0, sizeof before_, &before_) == 0 && sched_setaffinity(0, sizeof one, &one) == 0;
  }
  on_one_processor(const on_one_processor&) = delete;
  ~on_one_processor() {
    if (restore_) sched_setaffinity(0, sizeof before_, &before_);
  }

 private:
  cpu_set_t before_;
  bool restore_ = false;
};

/// As a program has it, on whatever processors: the middle of several containers, since each keeps the place it got.
task<result<void>> measure_overhead(ring::uring_loop& loop, planner_report& report) {
  null_kernel kernel;
  std::vector<double> plain;
  std::vector<double> engine;
  for (int i = 0; i < containers; ++i) {
    measured_side none(loop);
    auto filled = co_await none.side.hold(0);
    if (!filled) co_return filled;
    for (int turn = 0; turn < turns / containers; ++turn) {
      plain.push_back(plain_turn(kernel));
      auto done = co_await none.measure();
      if (!done) co_return done;
    }
    engine.push_back(median_of(std::move(none.ns)));
  }
  report.raw_ns_per_op = median_of(std::move(plain));
  report.engine_ns_per_op = median_of(std::move(engine));
  co_return result<void>{};
}

task<result<void>> measure_scale(ring::uring_loop& loop, std::uint64_t many, planner_report& report) {
  const on_one_processor stay;
  measured_side few(loop);
  measured_side lots(loop);
  auto filled = co_await few.side.hold(few_held);
  if (!filled) co_return filled;
  const auto before = heap_bytes();
  filled = co_await lots.side.hold(many);
  if (!filled) co_return filled;
  report.bytes_per_mapping = std::max(0.0, heap_bytes() - before) / static_cast<double>(many);
  for (int turn = 0; turn < turns; ++turn) {
    for (auto* side : {&few, &lots}) {
      auto done = co_await side->measure();
      if (!done) co_return done;
    }
  }
  report.few_ns_per_op = median_of(std::move(few.ns));
  report.many_ns_per_op = median_of(std::move(lots.ns));
  co_return result<void>{};
}

}  // namespace

null_side::null_side(ring::uring_loop& loop)
    : here_(loop.get_executor()), space_(here_, kernel_, thread_workers()), pages_(fill_batch_size) {}

// Every mapping shows the same page, which is there.
mapping null_side::page(std::uint64_t number) {
  alignas(page_bytes) static std::array<std::byte, page_bytes> shown{std::byte{1}};
  mapping made;
  made.host = shown.data();
  made.resident = true;
  made.at = {bench_iova + number * page_bytes, page_bytes};
  return made;
}

// An odd factor that 5 does not divide: it goes round any count of gaps of 2^a * 5^b before it comes to one again.
std::uint64_t null_side::next_gap() noexcept {
  const auto gaps = std::max(held_, few_held);
  return (gaps_++ * 0x9e3779b1) % gaps * 2 + 1;
}

task<result<void>> null_side::map_all(const std::vector<std::uint64_t>& pages) {
  std::optional<error> failure;
  ring::latch left(pages.size());
  for (const auto number : pages) {
    space_.async_map(page(number), [&](const result<void>& outcome) {
      if (!outcome) failure = outcome.error();
      left.count_down();
    });
  }
  co_await left;
  if (failure) co_return *failure;
  co_return result<void>{};
}

task<result<void>> null_side::unmap_all(const std::vector<std::uint64_t>& pages) {
  std::optional<error> failure;
  ring::latch left(pages.size());
  for (const auto number : pages) {
    space_.async_unmap(page(number).at, [&](const result<std::uint64_t>& outcome) {
      if (!outcome) failure = outcome.error();
      left.count_down();
    });
  }
  co_await left;
  if (failure) co_return *failure;
  co_return result<void>{};
}

task<result<void>> null_side::hold(std::uint64_t count) {
  auto connected = co_await space_.async_connect(0, resume_on{here_});
  if (!connected) co_return connected.error();
  while (held_ < count) {
    pages_.resize(std::min<std::uint64_t>(fill_batch_size, count - held_));
    for (auto& number : pages_) number = 2 * held_++;
    auto mapped = co_await map_all(pages_);
    if (!mapped) co_return mapped;
  }
  co_return result<void>{};
}

task<result<void>> null_side::batch(std::size_t size) {
  pages_.resize(size);
  for (auto& number : pages_) number = next_gap();
  auto mapped = co_await map_all(pages_);
  if (!mapped) co_return mapped;
  co_return co_await unmap_all(pages_);
}

void null_batch_plainly(kernel::files& kernel, std::size_t size) noexcept {
  for (std::size_t i = 0; i < size; ++i) {
    vfio_iommu_type1_dma_map request{};
    request.argsz = sizeof request;
    request.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    request.iova = bench_iova + i * page_bytes;
    request.size = page_bytes;
    kernel.ioctl(3, VFIO_IOMMU_MAP_DMA, &request);
  }
  for (std::size_t i = 0; i < size; ++i) {
    vfio_iommu_type1_dma_unmap request{};
    request.argsz = sizeof request;
    request.iova = bench_iova + i * page_bytes;
    request.size = page_bytes;
    kernel.ioctl(3, VFIO_IOMMU_UNMAP_DMA, &request);
  }
}

task<result<planner_report>> measure_planner(ring::uring_loop& loop, std::uint64_t many) {
  planner_report report;
  auto overhead = co_await measure_overhead(loop, report);
  if (!overhead) co_return overhead.error();
  auto scale = co_await measure_scale(loop, many, report);
  if (!scale) co_return scale.error();
  co_return report;
}

}  // namespace tidemark::cli
