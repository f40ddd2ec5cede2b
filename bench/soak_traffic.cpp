// SPDX-License-Identifier: Apache-2.0

#include "soak_traffic.hpp"

#include <algorithm>
#include <chrono>

#include "ring/offload.hpp"

namespace tidemark::bench {

using ring::task;

namespace {

constexpr std::uint64_t writes_a_window = 50000;
constexpr std::uint64_t rest_ms_max = 40;
constexpr std::uint64_t writes_before_detach = 256;

bool one_in(choices& random, std::uint64_t n) { return random() % n == 0; }

}  // namespace

soak_traffic::soak_traffic(soak_guest& guest, std::uint64_t seed)
    : guest_(guest), random_(seed), written_{choices(seed + 1), choices(seed + 2)}, consumers_(guest, seed + 3) {}

void soak_traffic::note(const result<void>& outcome) {
  if (outcome_ && !outcome) outcome_ = outcome;
}

task<result<void>> soak_traffic::run(std::uint64_t writes) {
  for (auto& shown : guest_.views()) {
    if (!shown.moves) continue;
    ++churning_;
    ring::start(churn(shown));
  }
  const auto end = guest_.report().device_writes + writes;
  while (outcome_ && guest_.report().device_writes < end)
    note(co_await window(std::min(writes_a_window, end - guest_.report().device_writes)));
  ending_ = true;
  while (churning_ != 0) co_await rest(5);
  co_return outcome_;
}

task<result<void>> soak_traffic::window(std::uint64_t writes) {
  ++windows_;
  besides_.clear();
  bool restarts = one_in(random_, 8);
  writing_ = soak_devices;
  for (std::size_t i = 0; i < soak_devices; ++i) ring::start(write(i, (writes + i) / soak_devices));
  while (writing_ != 0) {
    // A restart hands out everything, and hides what was lost before.
    if (std::exchange(restarts, false)) {
      besides_ += ", a restart";
      if (auto restarted = co_await guest_.restart(); !restarted) note(restarted);
    }
    if (auto round = co_await consumers_.round(false); !round) note(round);
    if (!outcome_) ending_ = true;
    co_await rest(20);
  }
  if (!outcome_) co_return outcome_;
  guest_.report().progress(now());
  co_return co_await check();
}

task<result<void>> soak_traffic::check() {
  if (auto last = co_await consumers_.round(true); !last) co_return last;
  ++guest_.report().checks;
  (void)guest_.compare(now());
  const auto none = [this](page_run run) { guest_.report().needless(run, "nothing was written since a check, " + now()); };
  co_return co_await pull_round(guest_, none);
}

std::string soak_traffic::now() const {
  return std::string(name_of(guest_.teller())) + ", window " + std::to_string(windows_) + besides_;
}

// --- devices ---

task<> soak_traffic::write(std::size_t which, std::uint64_t writes) {
  if (one_in(random_, 6)) {
    const auto before = random_() % (writes + 1);
    note(co_await write_some(which, before));
    if (outcome_) note(co_await attach_anew(which));
    writes -= before;
  }
  if (outcome_) note(co_await write_some(which, writes));
  --writing_;
}

task<result<void>> soak_traffic::write_some(std::size_t which, std::uint64_t writes) {
  const auto& on = guest_.device_of(which);
  const auto done = co_await ring::offload(thread_workers(), guest_.executor(),
                                           [&] { return ring_at_random(on, guest_.views(), writes, written_[which]); });
  co_return counted(done, on);
}

result<void> soak_traffic::counted(const rung& done, const device& on) {
  guest_.report().device_writes += done.carried_out;
  guest_.report().refused_writes += done.refused;
  if (done.failed == 0) return {};
  return kernel_error(operation::device_io, done.failed, {}, "a doorbell of " + on.name());
}

task<result<void>> soak_traffic::attach_anew(std::size_t which) {
  besides_ += ", device " + std::to_string(which) + " attached anew";
  ++guest_.report().reattached;
  // Writes right before, half of the times with no region event that would read the logs: only the detach can find them.
  const std::size_t calm = random_() % 2;
  calm_ += calm;
  while (calm != 0 && moving_ != 0) co_await rest(2);
  const auto& on = guest_.device_of(which);
  const auto last = counted(ring_at_random(on, guest_.views(), writes_before_detach, written_[which]), on);
  auto detached = co_await guest_.detach(which);
  calm_ -= calm;
  if (!last) co_return last;
  if (!detached) co_return detached;
  co_await rest(10);
  co_return co_await guest_.attach(which);
}

// --- regions ---

task<> soak_traffic::churn(view& shown) {
  while (!ending_) {
    co_await rest(rest_ms_max);
    if (calm_ != 0) continue;
    ++moving_;
    note(co_await move(shown));
    --moving_;
    if (!outcome_) break;
  }
  --churning_;
}

/// To where it was, or elsewhere; one after the other, or both events under way at once.
task<result<void>> soak_traffic::move(view& shown) {
  const iova_range from{shown.at.load(), shown.pages * page_bytes};
  const auto to = one_in(random_, 3) ? from.iova : soak_guest::place(shown, random_);
  const bool overlap = to != from.iova && to < from.iova + from.size && from.iova < to + from.size;
  if (one_in(random_, 2) || overlap) {
    if (auto removed = co_await guest_.remove(from); !removed) co_return removed;
    shown.at = 0;
    co_await rest(5);
    co_return co_await guest_.add(shown, to);
  }
  ring::latch both(2);
  result<void> removed, added;
  if (one_in(random_, 2)) shown.at = to;  // a device writes there as soon as it can
  if (to == from.iova || one_in(random_, 2)) {
    ring::start(remove(from, both, removed));
    ring::start(add(shown, to, both, added));
  } else {
    ring::start(add(shown, to, both, added));
    ring::start(remove(from, both, removed));
  }
  co_await both;
  co_return removed ? added : removed;
}

task<> soak_traffic::remove(iova_range where, ring::latch& done, result<void>& outcome) {
  outcome = co_await guest_.remove(where);
  done.count_down();
}

task<> soak_traffic::add(view& shown, std::uint64_t iova, ring::latch& done, result<void>& outcome) {
  outcome = co_await guest_.add(shown, iova);
  done.count_down();
}

task<> soak_traffic::rest(std::uint64_t ms_max) {
  ring::timer pause(guest_.loop());
  co_await pause.until(guest_.loop().now() + std::chrono::microseconds(random_() % (ms_max * 1000)));
}

}  // namespace tidemark::bench
