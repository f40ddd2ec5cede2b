// SPDX-License-Identifier: Apache-2.0

#include "migrate/source.hpp"

#include <algorithm>
#include <boost/asio/error.hpp>
#include <cerrno>
#include <utility>

#include "migrate/channel.hpp"
#include "migrate/checksums.hpp"
#include "migrate/guest_calls.hpp"
#include "ring/deadline.hpp"
#include "ring/offload.hpp"
#include "ring/sleep.hpp"

namespace tidemark::migrate {

using ring::task;
using namespace std::chrono_literals;

source::source(parts with, migration_options options, progress_call on_progress)
    : with_(std::move(with)),
      here_{with_.executor},
      options_(options),
      on_progress_(std::move(on_progress)),
      pace_(options_) {
  for (const auto& block : with_.space.blocks()) progress_.total_bytes += block.size;
}

task<result<migration_summary>> source::run() {
  began_ = now();
  under_way_ = true;
  const auto done = co_await migrate();
  under_way_ = false;
  if (!done) co_return co_await give_up(done.error());
  co_await with_.to.leave(nullptr);
  summary_.channels = with_.to.channels();
  summary_.total_bytes = progress_.total_bytes;
  summary_.sent_bytes = progress_.sent_bytes;
  summary_.zero_bytes = progress_.zero_bytes;
  summary_.repeated_bytes = progress_.repeated_bytes;
  summary_.device_bytes = progress_.device_bytes;
  summary_.recoveries = progress_.recoveries;
  co_return summary_;
}

task<result<void>> source::migrate() {
  if (with_.devices)
    if (auto can = with_.devices->check(); !can) co_return can;
  if (auto done = co_await open(); !done) co_return done;
  if (with_.to.takes_pages()) {
    if (auto done = co_await with_.stream.async_start(here_); !done) co_return done;
    tracking_ = true;
  }
  if (auto done = co_await start_devices(); !done) co_return done;
  for (;;) {
    auto done = co_await send_all();
    if (done) break;
    if (auto again = co_await recover(done.error()); !again) co_return again;
  }
  if (auto done = co_await hand_over(); !done) co_return done;
  co_return co_await compare();
}

task<result<void>> source::open() {
  if (auto go_on = check_cancelled(); !go_on) co_return go_on;
  report(migration_phase::connecting);
  with_.to.set_bandwidth(options_.bandwidth_bytes_per_s);
  auto opened = co_await with_.to.open();
  if (!opened) {
    // Where nobody listens, nobody will: whoever gave the address is to know at once.
    if (opened.error().what == operation::connect_peer) co_return opened.error();
    if (auto again = co_await recover(opened.error()); !again) co_return again;
  }
  begun_ = true;
  co_return check_cancelled();
}

/// Until everything is in place at the destination, and the guest paused here.
task<result<void>> source::send_all() {
  if (with_.to.takes_pages())
    if (auto done = co_await pre_copy(); !done) co_return done;
  co_return co_await stop_and_copy();
}

task<result<void>> source::pre_copy() {
  for (;;) {
    if (auto go_on = co_await wait_released(); !go_on) co_return go_on;
    dirty_round round;
    if (auto done = co_await touch(); !done) co_return done;
    if (auto done = co_await begin_round(round); !done) co_return done;
    if (auto asked = co_await ask_devices(); !asked) co_return asked;
    report(migration_phase::pre_copy);
    if (!held_ && pace_.should_switch(progress_.remaining_bytes, device_bytes_left_)) co_return result<void>{};
    co_await throttle(pace_.throttle_percent());
    summary_.rounds = round.number;
    if (auto sent = co_await send_round(); !sent) co_return sent;
  }
}

/// Those that can are saved while they run. Over fd: nothing is to be gained by that.
task<result<void>> source::start_devices() {
  if (!with_.devices || !with_.to.takes_pages()) co_return result<void>{};
  devices_save_ = true;
  co_return co_await with_.devices->start_pre_copy();
}

task<result<void>> source::ask_devices() {
  if (!with_.devices) co_return result<void>{};
  auto left = co_await with_.devices->pre_copy_left();
  if (!left) co_return left.error();
  device_bytes_left_ = left->pre_copy_bytes + left->stop_copy_bytes;
  co_return result<void>{};
}

task<result<void>> source::touch() {
  const auto began = now();
  if (auto done = co_await with_.to.touch(); !done) co_return done;
  pace_.touched(now() - began);
  co_return result<void>{};
}

task<result<void>> source::begin_round(dirty_round& round) {
  co_await with_.to.begin_round();
  const auto asked_at = now();
  auto begun = co_await with_.stream.async_begin_round(here_);
  if (!begun) co_return begun.error();
  round = *begun;
  progress_.round = round.number;
  progress_.remaining_bytes = round.dirty_pages * page_bytes;
  if (paused_) co_return result<void>{};  // who stands still tells nothing of his pace
  pace_.round_came(round.number, progress_.remaining_bytes, asked_at, now());
  progress_.dirty_bytes_per_s = pace_.dirty_bytes_per_s();
  co_return result<void>{};
}

/// A guest that cannot be slowed down goes on as it is: then it is the rounds that end.
task<void> source::throttle(unsigned percent) {
  if (!options_.throttle || percent == progress_.throttle_percent || !with_.vm.can_throttle()) co_return;
  const auto done = co_await throttle_guest(with_.vm, percent, here_);
  if (done) progress_.throttle_percent = percent;
}

task<result<void>> source::send_round() {
  std::optional<error> failure;
  pace_.sending_began(now());
  const auto devices = with_.devices ? with_.devices->size() : 0;
  const auto batches = with_.to.takes_pages() ? batches_in_flight : 0;
  ring::latch senders(batches + devices);
  const auto begin = [&senders](task<void> sender) {
    ring::start([](task<void> piece, ring::latch& done) -> task<> {
      co_await std::move(piece);
      done.count_down();
    }(std::move(sender), senders));
  };
  for (std::size_t i = 0; i < batches; ++i) begin(send_batches(failure));
  for (unsigned i = 0; i < devices; ++i) begin(send_device(i, failure));
  co_await senders;
  if (failure) co_return *failure;
  co_return check_cancelled();
}

task<void> source::send_batches(std::optional<error>& failure) {
  while (!failure && !cancelled_) {
    if (held_ && !paused_) {
      co_await wait_held(failure);
      continue;
    }
    auto batch = co_await with_.stream.async_next(here_);
    if (!batch) co_return fail(failure, batch.error());
    if (batch->empty()) co_return;
    auto sent = co_await with_.to.send(batch->runs());
    if (!sent) co_return fail(failure, sent.error());
    batch->acknowledge();
    note_sent(batch->pages(), *sent);
  }
}

/// Between two rounds: a migration that is held does not begin its blackout.
task<result<void>> source::wait_released() {
  std::optional<error> failure;
  while (held_ && !cancelled_ && !failure) co_await wait_held(failure);
  if (auto go_on = check_cancelled(); !go_on) co_return go_on;
  if (failure) co_return *failure;
  co_return result<void>{};
}

/// One of those who wait looks now and then whether the connection is still there: a broken one has to be made anew while
/// the destination waits for it.
task<void> source::wait_held(std::optional<error>& failure) {
  report(migration_phase::held);
  if (probing_) {
    co_await released_.wait();
  } else {
    probing_ = true;
    co_await ring::sleep(with_.clock, 100ms, here_);
    const bool looks = held_ && !cancelled_ && !failure;
    auto there = result<void>{};
    if (looks) there = co_await with_.to.touch();
    if (!there) fail(failure, there.error());
    probing_ = false;
  }
  pace_.sending_began(now());
  progress_.phase = migration_phase::pre_copy;
}

/// Those who are held back are not to wait for a release.
void source::fail(std::optional<error>& failure, error why) {
  if (!failure) failure = std::move(why);
  released_.notify();
}

task<void> source::send_device(unsigned device, std::optional<error>& failure) {
  auto sent = co_await with_.to.send_device(device, *with_.devices);
  if (!sent) fail(failure, sent.error());
  if (sent) progress_.device_bytes += *sent;
}

void source::note_sent(std::uint64_t pages, const delivery& how) {
  const auto bytes = pages * page_bytes;
  progress_.sent_bytes += bytes;
  progress_.zero_bytes += how.zero_pages * page_bytes;
  progress_.repeated_bytes += how.repeated_pages * page_bytes;
  progress_.remaining_bytes -= std::min(progress_.remaining_bytes, bytes);
  pace_.arrived(bytes, now());
  report();
}

void source::report(migration_phase phase) {
  progress_.phase = phase;
  progress_.elapsed = now() - began_;
  progress_.wire_bytes = with_.to.wire_bytes();
  progress_.bandwidth_bytes_per_s = pace_.bandwidth_bytes_per_s();
  progress_.predicted = pace_.predict(progress_.remaining_bytes, device_bytes_left_);
  if (on_progress_) on_progress_(progress_);
}

task<result<void>> source::stop_and_copy() {
  summary_.predicted = progress_.predicted;
  paused_at_ = now();
  paused_ = true;
  report(migration_phase::stop_and_copy);
  if (auto done = co_await pause_guest(with_.vm, here_); !done) co_return done;
  if (with_.devices) {
    devices_save_ = true;
    if (auto done = co_await with_.devices->stop(); !done) co_return done;
  }
  summary_.blackout.pause = now() - paused_at_;
  const auto before = progress_.sent_bytes;
  if (auto done = co_await send_rest(); !done) co_return done;
  summary_.stop_and_copy_bytes = progress_.sent_bytes - before;
  co_return result<void>{};
}

task<result<void>> source::send_rest() {
  const auto began = now();
  if (with_.to.takes_pages()) {
    dirty_round round;
    if (auto done = co_await begin_round(round); !done) co_return done;
    summary_.blackout.sync = now() - began;
    report();
  }
  if (auto sent = co_await send_round(); !sent) co_return sent;
  if (with_.to.takes_over())
    if (auto done = co_await with_.to.finish(); !done) co_return done;
  summary_.blackout.send = now() - began - summary_.blackout.sync;
  co_return check_cancelled();
}

task<result<void>> source::hand_over() {
  const auto began = now();
  auto done = result<void>{};
  if (with_.to.takes_over()) {
    handed_over_ = true;
    report(migration_phase::handed_over);
    done = co_await run_there();
  } else {
    done = co_await guest_goes_on();
    co_await throttle(0);
  }
  if (!done) co_return done;
  summary_.blackout.hand_over = now() - began;
  if (!with_.to.takes_over())  // what came of the pages by then is all that it needs
    if (auto finished = co_await with_.to.finish(); !finished) co_return finished;
  summary_.total = now() - began_;
  summary_.wire_bytes = with_.to.wire_bytes();
  // Not before, for it takes as long as there is memory. What it answers is of no use to anybody any more.
  if (std::exchange(tracking_, false)) (void)co_await with_.stream.async_stop(here_);
  co_return result<void>{};
}

/// A connection that breaks between "you may run" and "I run" leaves open what came of it: the destination is asked, if it
/// can be reached again.
task<result<void>> source::run_there() {
  auto done = co_await with_.to.hand_over();
  while (!done) {
    if (auto again = co_await recover(done.error()); !again) {
      auto failure = make_error(operation::migrate, errc::undecided, {}, again.error().message());
      failure.undone = "the guest stays paused here: look whether the destination runs it before you resume it";
      co_return failure;
    }
    if (running_there_) break;
    done = co_await with_.to.finish();
    if (done) done = co_await with_.to.hand_over();
  }
  co_return result<void>{};
}

task<result<void>> source::compare() {
  if (!with_.to.takes_over()) co_return result<void>{};
  std::vector<std::string> sums;
  if (options_.compare)
    sums = co_await ring::offload(with_.threads, with_.executor, [this] { return checksums_of(with_.space.blocks()); });
  auto differing = co_await with_.to.compare(sums);
  if (!options_.compare) co_return result<void>{};  // it runs there, whether or not its last word came
  while (!differing) {
    if (auto again = co_await recover(differing.error()); !again) co_return again;
    differing = co_await with_.to.compare(sums);
  }
  if (!differing->empty())
    co_return make_error(operation::migrate, errc::not_identical, {}, "RAM blocks that differ: " + *differing);
  summary_.compared = true;
  co_return result<void>{};
}

// --- what goes wrong ---

/// Makes a broken connection anew, again and again within the window. Until the hand-over the guest runs meanwhile.
task<result<void>> source::recover(error broken) {
  if (auto go_on = check_cancelled(); !go_on && !handed_over_) co_return go_on;
  if (!is_broken_connection(broken) || options_.recovery_window == 0ms) co_return broken;
  const auto until = now() + options_.recovery_window;
  report(migration_phase::recovering);
  if (!handed_over_)
    if (auto goes_on = co_await guest_goes_on(); !goes_on) co_return goes_on;
  for (auto pause = 20ms; now() < until; pause = std::min(pause * 2, 1000ms)) {
    auto opened = co_await open_again(until);
    if (opened && !opened->resumed && begun_)
      co_return make_error(operation::migrate, errc::protocol, {}, "the destination does not know this migration any more");
    if (opened) {
      ++progress_.recoveries;
      running_there_ = opened->running;
      if (!handed_over_) co_return co_await start_devices();
      co_return result<void>{};
    }
    if (!is_broken_connection(opened.error())) co_return opened.error();
    broken = opened.error();
    co_await ring::sleep(with_.clock, std::min<ring::clock::duration>(pause, until - now()), here_);
    if (auto go_on = check_cancelled(); !go_on && !handed_over_) co_return go_on;
  }
  co_return broken;
}

/// A destination may be there, and stand still.
task<result<welcome>> source::open_again(ring::clock::time_point until) {
  bool late = false;
  auto opened = co_await ring::with_deadline(with_.clock, until, here_, with_.to.open(), [&] {
    late = true;
    with_.to.cut(nullptr);
  });
  if (late)
    co_return kernel_error(operation::migrate, ETIMEDOUT, {}, "the destination did not answer within the recovery window");
  co_return opened;
}

/// At the source, as before.
task<result<void>> source::guest_goes_on() {
  if (std::exchange(devices_save_, false))
    if (auto resumed = co_await with_.devices->resume(); !resumed) co_return resumed;
  if (!std::exchange(paused_, false)) co_return result<void>{};
  co_return co_await resume_guest(with_.vm, here_);
}

/// After this nothing of the migration is left; what it returns says why, and where the guest is.
task<error> source::give_up(error failure) {
  if (const auto go_on = check_cancelled(); !go_on && !handed_over_) failure = go_on.error();
  const auto told = failure;
  const auto* why = is_broken_connection(told) ? nullptr : &told;
  if (handed_over_) {
    co_await with_.to.leave(why);
    if (std::exchange(tracking_, false)) (void)co_await with_.stream.async_stop(here_);
    if (failure.undone.empty()) failure.undone = "the guest runs at the destination and stays paused here";
    co_return failure;
  }
  failure.undone = "the guest runs on here, its memory and mappings as before";
  if (auto resumed = co_await guest_goes_on(); !resumed)
    failure.undone = "memory and mappings are as before, but the guest cannot be resumed here: " + resumed.error().message();
  co_await throttle(0);
  co_await with_.to.leave(why);  // who does not listen is not to keep the guest waiting
  if (std::exchange(tracking_, false)) (void)co_await with_.stream.async_stop(here_);
  co_return failure;
}

void source::cancel() noexcept {
  if (handed_over_ || std::exchange(cancelled_, true) || !under_way_) return;
  const auto why = check_cancelled().error();
  with_.to.cut(&why);
  release();
}

void source::release() {
  held_ = false;
  released_.notify();
}

result<void> source::check_cancelled() const {
  if (cancelled_)
    return error{boost::asio::error::operation_aborted, operation::migrate, {}, "the migration was cancelled", {}};
  return {};
}

}  // namespace tidemark::migrate
