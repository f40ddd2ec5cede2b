// SPDX-License-Identifier: Apache-2.0

#include "soak_exact.hpp"

#include <algorithm>

#include "ring/offload.hpp"
#include "soak_doorbells.hpp"
#include "soak_pull.hpp"

namespace tidemark::bench {

using ring::task;

namespace {

constexpr std::uint64_t pages_a_round_max = 64;
/// Devices log what they are given at a start, and more with each region elsewhere: now and then from the start again.
constexpr std::uint64_t rounds_a_start = 100;
constexpr std::uint64_t bystander_arena = 1ULL << 40;
constexpr std::uint64_t bystander_pages = 1024;

}  // namespace

soak_exact::soak_exact(soak_guest& guest, std::uint64_t seed)
    : guest_(guest),
      random_(seed),
      states_(guest.pages(), page_state::clean),
      bystanders_{
          {{{0, 512, bystander_pages, true, bystander_arena}}, {{1, 7000, bystander_pages, true, 2 * bystander_arena}}}} {}

task<result<void>> soak_exact::run(std::uint64_t rounds) {
  while (rounds_ < rounds) {
    if (rounds_ % rounds_a_start == 0) {
      if (rounds_ != 0)
        if (auto restarted = co_await guest_.restart(); !restarted) co_return restarted;
      if (auto drained = co_await drain(); !drained) co_return drained;
    }
    ++rounds_;
    if (auto done = co_await round(); !done) co_return done;
    guest_.report().progress(now());
  }
  for (auto& one : bystanders_) {
    ring::latch gone(1);
    result<void> outcome;
    if (!one.is_there) continue;
    ring::start(toggle(one, gone, outcome));
    co_await gone;
    if (!outcome) co_return outcome;
  }
  co_return result<void>{};
}

/// Of a start: everything.
task<result<void>> soak_exact::drain() {
  co_return co_await pull_round(guest_, [](page_run) {});
}

task<result<void>> soak_exact::round() {
  const auto nothing = [this](page_run run) { guest_.report().needless(run, "nothing was written, " + now()); };
  if (auto empty = co_await pull_round(guest_, nothing); !empty) co_return empty;
  choose_pages();
  with_events_ = rounds_ % 2 == 0;
  ring::latch writes(soak_devices);
  ring::latch events(with_events_ ? bystanders_.size() : 0);
  std::array<result<void>, soak_devices> wrote;
  std::array<result<void>, 2> changed;
  for (std::size_t i = 0; i < soak_devices; ++i) ring::start(write(i, writes, wrote[i]));
  if (with_events_)
    for (std::size_t i = 0; i < bystanders_.size(); ++i) ring::start(toggle(bystanders_[i], events, changed[i]));
  co_await writes;
  auto pulled = co_await pull_round(guest_, [this](page_run run) { take(run); });
  co_await events;
  for (const auto& outcome : {wrote[0], wrote[1], changed[0], changed[1], pulled})
    if (!outcome) co_return outcome;
  judge();
  ++guest_.report().exact_rounds;
  co_return result<void>{};
}

void soak_exact::choose_pages() {
  const auto& views = guest_.views();
  for (auto count = 1 + random_() % pages_a_round_max; count != 0; --count) {
    const auto& one = views[random_() % views.size()];
    const auto page = random_() % one.pages;
    auto& state = state_of(one.block, one.first_page + page);
    if (state == page_state::clean) written_.push_back({one.block, one.first_page + page, 1});
    state = page_state::written;
    bells_[random_() % soak_devices].push_back(doorbell_at(one.at.load(), page, random_));
  }
}

task<> soak_exact::write(std::size_t which, ring::latch& done, result<void>& outcome) {
  const auto& on = guest_.device_of(which);
  const auto became =
      co_await ring::offload(thread_workers(), guest_.executor(), [&] { return ring_all(on, bells_[which]); });
  guest_.report().device_writes += became.carried_out;
  if (became.failed != 0 || became.refused != 0)
    outcome = kernel_error(operation::device_io, became.failed, {}, "a doorbell of " + on.name());
  bells_[which].clear();
  done.count_down();
}

task<> soak_exact::toggle(bystander& one, ring::latch& done, result<void>& outcome) {
  if (one.is_there)
    outcome = co_await guest_.remove({one.shown.at.load(), one.shown.pages * page_bytes});
  else
    outcome = co_await guest_.add(one.shown, soak_guest::place(one.shown, random_));
  one.is_there = !one.is_there;
  done.count_down();
}

void soak_exact::take(page_run run) {
  for (std::uint64_t page = run.first_page; page < run.first_page + run.pages; ++page) {
    auto& state = state_of(run.block, page);
    if (state != page_state::written) guest_.report().needless({run.block, page, 1}, now());
    if (state == page_state::written) state = page_state::handed_out;
  }
}

void soak_exact::judge() {
  for (const auto& run : written_) {
    auto& state = state_of(run.block, run.first_page);
    if (state == page_state::written) guest_.report().lost(run, "not handed out, " + now());
    state = page_state::clean;
  }
  written_.clear();
}

std::string soak_exact::now() const {
  return std::string(name_of(guest_.teller())) + ", exact round " + std::to_string(rounds_) +
         (with_events_ ? ", with region events" : "");
}

}  // namespace tidemark::bench
