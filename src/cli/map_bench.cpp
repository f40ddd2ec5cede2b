// SPDX-License-Identifier: Apache-2.0

#include "cli/map_bench.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <utility>

#include "cli/kernel_of.hpp"
#include "cli/map_bench_engine.hpp"
#include "cli/map_bench_memory.hpp"
#include "cli/map_bench_plain.hpp"
#include "cli/map_bench_planner.hpp"
#include "cli/map_bench_stall.hpp"
#include "cli/options.hpp"

namespace tidemark::cli {

using ring::task;

namespace {

// Many short turns: where the host takes a processor away it hits few of them.
constexpr int rounds_of_small_maps = 21;
constexpr int rounds_of_large_maps = 3;  // and of stalls
constexpr std::uint64_t in_place_requests = 64;
constexpr std::uint64_t in_place_memory_bytes = std::uint64_t{16} << 20;

/// All measurements of one run, one after the other, on one loop.
class map_bench {
 public:
  map_bench(ring::uring_loop& loop, kernel::files& kernel, const map_bench_request& request, backend::device_place device)
      : loop_(loop), kernel_(kernel), request_(request), device_(std::move(device)) {
    report_.request = request;
    report_.device = device_.name;
  }

  task<> run() {
    outcome_ = co_await measure();
    loop_.stop();
  }
  const result<void>& outcome() const noexcept { return outcome_; }
  map_report& report() noexcept { return report_; }

 private:
  task<result<void>> measure() {
    auto patterns = co_await measure_patterns();
    if (!patterns) co_return patterns;
    if (request_.stall) {
      auto stall = co_await measure_stall();
      if (!stall) co_return stall.error();
      report_.stall = *stall;
    }
    if (request_.planner) {
      auto planner = co_await measure_planner(loop_, request_.config.bench_held);
      if (!planner) co_return planner.error();
      report_.planner = *planner;
    }
    co_return result<void>{};
  }

  task<result<void>> measure_patterns() {
    if (request_.patterns.empty()) co_return result<void>{};
    auto memory = fresh_memory();
    if (!memory) co_return memory.error();
    memory->touch();
    const bool locked = memory->lock();
    for (const auto which : request_.patterns) {
      auto measured = co_await measure_pattern(which, memory->host(), locked);
      if (!measured) co_return measured.error();
      report_.patterns.push_back(*measured);
    }
    co_return result<void>{};
  }

  task<result<pattern_report>> measure_pattern(map_pattern which, std::byte* memory, bool locked) {
    auto what = make_script(which, request_.config);
    what.resident = locked;
    const bool large = which == map_pattern::regions || which == map_pattern::churn;
    std::vector<measured> plain;
    std::vector<measured> engine;
    for (int round = 0; round < (large ? rounds_of_large_maps : rounds_of_small_maps); ++round) {
      auto plain_run = play_plainly(what, memory);
      if (!plain_run) co_return plain_run.error();
      plain.push_back(std::move(*plain_run));
      auto engine_run = co_await play_on_engine(what, memory);
      if (!engine_run) co_return engine_run.error();
      engine.push_back(std::move(*engine_run));
    }
    co_return compare(which, engine, plain);
  }

  result<measured> play_plainly(const script& what, std::byte* memory) {
    auto side = plain_side::open(kernel_, device_);
    if (!side) return side.error();
    return (*side)->play(what, memory);
  }

  task<result<measured>> play_on_engine(const script& what, std::byte* memory) {
    engine_side side(loop_, kernel_, device_);
    if (auto opened = co_await side.open(); !opened) co_return opened.error();
    auto run = co_await side.play(what, memory);
    if (auto closed = co_await side.close(); !closed) co_return closed.error();
    co_return run;
  }

  // A machine that is itself emulated gets its memory when it first touches it, and whoever pins first would pay for that.
  task<result<stall_report>> measure_stall() {
    {
      auto warm = fresh_memory();
      if (!warm) co_return warm.error();
      warm->touch();
    }
    stall_report report;
    for (int round = 0; round < rounds_of_large_maps; ++round) {
      auto done = co_await add_stall(report);
      if (!done) co_return done.error();
    }
    co_return report;
  }

  task<result<void>> add_stall(stall_report& report) {
    auto plain = co_await pin_plainly();
    if (!plain) co_return plain.error();
    auto engine = co_await pin_on_engine();
    if (!engine) co_return engine.error();
    report.beside.push_back(plain->longest_gap);
    report.plain_pin.push_back(plain->pin);
    report.engine.push_back(engine->longest_gap);
    report.engine_pin.push_back(engine->pin);
    auto in_place = co_await gap_in_place();
    if (!in_place) co_return in_place.error();
    report.in_place.push_back(*in_place);
    report.idle.push_back(co_await longest_idle_gap(loop_, engine->pin));
    co_return result<void>{};
  }

  // Memory not touched yet: the kernel gives its pages while it pins them, as for a guest that has just been started.
  result<bench_memory> fresh_memory() const {
    return bench_memory::make(request_.config.bench_memory_bytes, request_.config.bench_pages);
  }

  /// With as many requests in flight as one turn of the loop may carry out.
  task<result<nanoseconds>> gap_in_place() {
    auto chosen = request_.config;
    chosen.bench_memory_bytes = std::min(chosen.bench_memory_bytes, in_place_memory_bytes);
    chosen.bench_in_flight = in_place_requests;
    auto memory = bench_memory::make(chosen.bench_memory_bytes, chosen.bench_pages);
    if (!memory) co_return memory.error();
    memory->touch();
    auto what = make_script(map_pattern::viommu, chosen);
    what.resident = memory->lock();
    engine_side side(loop_, kernel_, device_);
    if (auto opened = co_await side.open(); !opened) co_return opened.error();
    auto gap = co_await gap_beside(loop_, side, what, *memory);
    if (auto closed = co_await side.close(); !closed) co_return closed.error();
    co_return gap;
  }

  task<result<watched_pin>> pin_on_engine() {
    auto memory = fresh_memory();
    if (!memory) co_return memory.error();
    engine_side side(loop_, kernel_, device_);
    if (auto opened = co_await side.open(); !opened) co_return opened.error();
    auto seen = co_await pin_watched(loop_, side, *memory);
    if (auto closed = co_await side.close(); !closed) co_return closed.error();
    co_return seen;
  }

  task<result<watched_pin>> pin_plainly() {
    auto memory = fresh_memory();
    if (!memory) co_return memory.error();
    auto side = plain_side::open(kernel_, device_);
    if (!side) co_return side.error();
    co_return co_await pin_watched(loop_, **side, *memory);
  }

  ring::uring_loop& loop_;
  counting_kernel kernel_;
  const map_bench_request& request_;
  backend::device_place device_;
  map_report report_;
  result<void> outcome_;
};

/// Why `path` could not be written; 0 when it was.
int write_file(const std::string& path, const std::string& text) {
  errno = 0;
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (file) return 0;
  return errno != 0 ? errno : EIO;
}

int fail(const std::string& line) {
  std::fprintf(stderr, "tidemark: %s\n", line.c_str());
  return exit_failed;
}

}  // namespace

result<map_report> measure_maps(kernel::files& kernel, const map_bench_request& request) {
  auto device = backend::find_device(kernel, request.device);
  if (!device) return device.error();
  auto loop = ring::uring_loop::make();
  if (!loop) return loop.error();
  map_bench bench(**loop, kernel, request, std::move(*device));
  ring::start(bench.run());
  if (auto ran = (*loop)->run(); !ran) return ran.error();
  if (!bench.outcome()) return bench.outcome().error();
  return std::move(bench.report());
}

int run_map_bench(const map_bench_request& request) {
  const kernel_of kernel(request.config.bench_kernel);
  const auto report = measure_maps(kernel.files(), request);
  if (!report) return fail(report.error().message());
  if (request.table) std::fputs(as_text(*report).c_str(), stdout);
  if (request.json) std::fputs(as_json(*report).c_str(), stdout);
  if (request.svg.empty()) return 0;
  const int cause = write_file(request.svg, as_svg(*report));
  return cause == 0 ? 0 : fail("cannot write " + request.svg + ": " + boost::system::generic_category().message(cause));
}

}  // namespace tidemark::cli
