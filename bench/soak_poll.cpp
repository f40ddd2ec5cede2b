// SPDX-License-Identifier: Apache-2.0

#include "soak_poll.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

#include "cli/dirtier.hpp"
#include "soak_doorbells.hpp"
#include "soak_pull.hpp"

namespace tidemark::bench {

using ring::task;

namespace {

using std::chrono::duration;
using std::chrono::milliseconds;

constexpr std::uint64_t rates_pages_per_s[] = {1000, 10000};
constexpr milliseconds polled_every[] = {milliseconds(0), milliseconds(10)};

/// Writes pages of a view in turn, so that as many become dirty as it writes.
class dirty_in_turn {
 public:
  dirty_in_turn(const device& on, const view& where) : on_(on), where_(where) {}

  std::uint64_t operator()(std::uint64_t pages) {
    std::vector<tidemark_test_doorbell> bells;
    for (; pages != 0; --pages) bells.push_back(doorbell_at(where_.at.load(), next_++ % where_.pages, random_));
    return ring_all(on_, bells).carried_out;
  }

 private:
  const device& on_;
  const view& where_;
  choices random_;
  std::uint64_t next_ = 0;
};

double us(std::chrono::nanoseconds time) { return duration<double, std::micro>(time).count(); }

task<result<void>> poll_at(soak_guest& guest, std::uint64_t rate, milliseconds every, double seconds) {
  if (auto restarted = co_await guest.restart(); !restarted) co_return restarted;
  const auto ignore = [](page_run) {};
  if (auto everything = co_await pull_round(guest, ignore); !everything) co_return everything;

  cli::dirtier writer("soak-device", rate * page_bytes, dirty_in_turn(guest.device_of(0), guest.views().front()));
  ring::timer pause(guest.loop());
  std::uint64_t pages = 0;
  duration<double> measured{};
  writer.resume();
  const auto began = guest.loop().now();
  const auto rounds_before = guest.report().rounds;
  for (auto now = began; duration<double>(now - began).count() < seconds; now = guest.loop().now()) {
    if (auto pulled = co_await pull_round(guest, ignore); !pulled) co_return pulled;
    const auto told = guest.stream().statistics().rates.back();
    pages += told.pages;
    measured += told.since_last;
    if (every.count() != 0) co_await pause.until(now + every);
  }
  const auto written = writer.pages();
  const duration<double> took = guest.loop().now() - began;
  guest.report().device_writes += written;

  const auto sync = guest.stream().statistics().sync;
  const auto rounds = guest.report().rounds - rounds_before;
  guest.report().polls.push_back({.teller = std::string(name_of(guest.teller())),
                                  .set_pages_per_s = rate,
                                  .every = every,
                                  .written_pages_per_s = static_cast<double>(written) / took.count(),
                                  .measured_pages_per_s = static_cast<double>(pages) / measured.count(),
                                  .rounds = rounds,
                                  .pages_a_round = static_cast<double>(pages) / static_cast<double>(rounds),
                                  .sync_us_p50 = us(sync.p50),
                                  .sync_us_p99 = us(sync.p99),
                                  .sync_us_max = us(sync.max)});
  co_return result<void>{};
}

}  // namespace

task<result<void>> poll(soak_guest& guest, double seconds) {
  if (seconds <= 0) co_return result<void>{};
  for (const auto every : polled_every) {
    for (const auto rate : rates_pages_per_s) {
      guest.report().progress("poll");
      if (auto done = co_await poll_at(guest, rate, every, seconds); !done) co_return done;
    }
  }
  co_return result<void>{};
}

}  // namespace tidemark::bench
