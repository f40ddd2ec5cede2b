// SPDX-License-Identifier: Apache-2.0
//
// dirty_soak: test devices write at random while everything around the dirty stream changes. What was lost, and what was
// sent needlessly, is counted; the exit status is 1 when anything was, and 2 when the soak itself failed.
//
// In two halves, one told by the devices' own logs and one by the container's tracking, each
//   traffic  writes, region churn, rounds, restarts, devices that come and go; memory is compared every 50000 writes
//   exact    known sets of pages are written, and just those are to be handed out
//   poll     how long a sync takes while a device dirties at a set rate, and what rate the stream tells

#include <CLI/CLI.hpp>
#include <cstdio>
#include <utility>

#include "cli/kernel_of.hpp"
#include "ring/executor.hpp"
#include "ring/uring_loop.hpp"
#include "soak_exact.hpp"
#include "soak_poll.hpp"
#include "soak_traffic.hpp"

namespace tidemark::bench {

namespace {

using ring::task;

class soak {
 public:
  soak(ring::uring_loop& loop, kernel::files& kernel, const soak_request& request, soak_report& report)
      : loop_(loop), kernel_(kernel), request_(request), report_(report) {}

  task<> run() {
    for (const auto who : {soak_teller::devices, soak_teller::container})
      if (outcome_) outcome_ = co_await half(who);
    loop_.stop();
  }
  const result<void>& outcome() const noexcept { return outcome_; }

 private:
  task<result<void>> half(soak_teller who) {
    const auto seed = request_.seed + (who == soak_teller::container ? 1000 : 0);
    soak_guest guest(loop_, kernel_, who, seed, report_);
    auto outcome = co_await guest.begin();
    if (outcome) outcome = co_await phases(guest, seed);
    auto ended = co_await guest.end();
    co_return outcome ? ended : outcome;
  }

  task<result<void>> phases(soak_guest& guest, std::uint64_t seed) {
    soak_traffic traffic(guest, seed + 10);
    if (auto done = co_await traffic.run(request_.writes / 2); !done) co_return done;
    soak_exact exact(guest, seed + 20);
    if (auto done = co_await exact.run(request_.exact_rounds); !done) co_return done;
    co_return co_await poll(guest, request_.poll_seconds);
  }

  ring::uring_loop& loop_;
  kernel::files& kernel_;
  const soak_request& request_;
  soak_report& report_;
  result<void> outcome_;
};

result<void> run_soak(const soak_request& request, soak_report& report) {
  auto loop = ring::uring_loop::make();
  if (!loop) return loop.error();
  const cli::kernel_of kernel(request.kernel == "linux" ? cli::kernel_choice::host : cli::kernel_choice::model);
  soak all(**loop, kernel.files(), request, report);
  ring::start(all.run());
  if (auto ran = (*loop)->run(); !ran) return ran;
  return all.outcome();
}

int run(const soak_request& request) {
  soak_report report(request);
  const auto outcome = run_soak(request, report);
  if (!outcome) {
    std::fprintf(stderr, "dirty_soak: %s\n", outcome.error().message().c_str());
    return 2;
  }
  report.print();
  return report.is_clean() ? 0 : 1;
}

}  // namespace

}  // namespace tidemark::bench

int main(int argc, char** argv) {
  tidemark::bench::soak_request request{
      .kernel = "model", .writes = 10'000'000, .seed = 1, .exact_rounds = 2000, .poll_seconds = 3};
  CLI::App app("Proves that a dirty stream loses nothing and hands out nothing needlessly.", "dirty_soak");
  app.add_option("--kernel", request.kernel, "in-process model, or this machine's with two test devices")
      ->check(CLI::IsMember({"model", "linux"}))
      ->capture_default_str();
  app.add_option("--writes", request.writes, "of devices, half of them in each configuration")->capture_default_str();
  app.add_option("--seed", request.seed, "of all that is chosen; not of how threads meet")->capture_default_str();
  app.add_option("--exact-rounds", request.exact_rounds, "of each configuration")->capture_default_str();
  app.add_option("--poll-seconds", request.poll_seconds, "for each row of the table of polls; 0: no such table")
      ->capture_default_str();
  app.add_flag("--json", request.json, "one JSON object instead of a summary");
  CLI11_PARSE(app, argc, argv);
  return tidemark::bench::run(request);
}
