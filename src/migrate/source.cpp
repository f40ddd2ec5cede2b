// SPDX-License-Identifier: Apache-2.0

#include "migrate/source.hpp"

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/json/serialize.hpp>
#include <utility>

#include "migrate/checksums.hpp"
#include "migrate/guest_calls.hpp"
#include "ring/offload.hpp"

namespace tidemark::migrate {

using ring::task;

namespace {

double seconds(std::chrono::nanoseconds time) noexcept { return std::chrono::duration<double>(time).count(); }

std::uint64_t per_second(std::uint64_t bytes, std::chrono::nanoseconds time) noexcept {
  return time.count() <= 0 ? 0 : static_cast<std::uint64_t>(static_cast<double>(bytes) / seconds(time));
}

std::chrono::nanoseconds time_for(std::uint64_t bytes, std::uint64_t bytes_per_s) noexcept {
  if (bytes_per_s == 0) return std::chrono::nanoseconds::max();
  return std::chrono::nanoseconds(
      static_cast<std::int64_t>(static_cast<double>(bytes) * 1e9 / static_cast<double>(bytes_per_s)));
}

}  // namespace

source::source(parts with, migration_options options, progress_call on_progress)
    : with_(std::move(with)), here_{with_.executor}, options_(options), on_progress_(std::move(on_progress)) {
  for (const auto& block : with_.space.blocks()) progress_.total_bytes += block.size;
}

task<result<migration_summary>> source::run() {
  began_ = now();
  under_way_ = true;
  const auto done = co_await migrate();
  under_way_ = false;
  if (!done) co_return co_await give_up(done.error());
  summary_.total = now() - began_;
  summary_.sent_bytes = progress_.sent_bytes;
  co_return summary_;
}

task<result<void>> source::migrate() {
  if (auto done = co_await greet(); !done) co_return done;
  if (auto done = co_await with_.stream.async_start(here_); !done) co_return done;
  tracking_ = true;
  if (auto done = co_await pre_copy(); !done) co_return done;
  if (auto done = co_await stop_and_copy(); !done) co_return done;
  if (auto done = co_await hand_over(); !done) co_return done;
  if (!options_.compare) co_return result<void>{};
  co_return co_await compare();
}

/// After this nothing of the migration is left; what it returns says why, and where the guest is.
task<error> source::give_up(error failure) {
  failure = co_await on_channel(leave(with_.to, std::move(failure), handed_over_));
  if (handed_over_) {
    if (failure.undone.empty()) failure.undone = "the guest runs at the destination and stays paused here";
    co_return failure;
  }
  if (const auto go_on = check_cancelled(); !go_on) failure = go_on.error();
  co_await go_on_here(failure);
  co_return failure;
}

/// On the channel's loop: closes it. Why it had to be, as a destination without a guest may have said.
task<error> source::leave(channel& to, error failure, bool handed_over) {
  if (!handed_over) failure = co_await to.why_failed(std::move(failure));
  to.close();
  co_return failure;
}

/// The guest running, at once, and then everything as it was before the migration.
task<void> source::go_on_here(error& failure) {
  failure.undone = "the guest runs on here, its memory and mappings as before";
  if (std::exchange(paused_, false))
    if (auto resumed = co_await resume_guest(with_.vm, here_); !resumed)
      failure.undone =
          "memory and mappings are as before, but the guest cannot be resumed here: " + resumed.error().message();
  if (std::exchange(tracking_, false)) (void)co_await with_.stream.async_stop(here_);
}

void source::cancel() noexcept {
  if (handed_over_ || std::exchange(cancelled_, true) || !under_way_) return;
  // give_up() goes through the same loop behind this, so the channel is still there.
  boost::asio::post(with_.to.loop().get_executor(), [&to = with_.to] { to.close(); });
}

result<void> source::check_cancelled() const {
  if (cancelled_)
    return error{boost::asio::error::operation_aborted, operation::migrate, {}, "the migration was cancelled", {}};
  return {};
}

task<result<void>> source::greet() {
  if (auto sent = co_await on_channel(with_.to.send(frame_type::hello, encode_hello(with_.space.blocks()))); !sent)
    co_return sent;
  auto answer = co_await on_channel(with_.to.expect(frame_type::welcome));
  if (!answer) co_return answer.error();
  co_return result<void>{};
}

task<result<void>> source::pre_copy() {
  for (;;) {
    if (auto go_on = check_cancelled(); !go_on) co_return go_on;
    const auto asked_at = now();
    auto round = co_await with_.stream.async_begin_round(here_);
    if (!round) co_return round.error();
    note_round(*round, asked_at);
    const bool enough = round->number > 1 && (fits_downtime() || round->number > options_.rounds_max);
    if (enough) co_return result<void>{};
    summary_.rounds = round->number;
    if (auto sent = co_await send_round(); !sent) co_return sent;
  }
}

/// What a new round says about rates. The first round is everything, which is no rate.
void source::note_round(const dirty_round& round, ring::clock::time_point asked_at) {
  progress_.round = round.number;
  progress_.remaining_bytes = round.dirty_pages * page_bytes;
  if (round.number > 1) progress_.dirty_bytes_per_s = per_second(progress_.remaining_bytes, asked_at - synced_at_);
  synced_at_ = asked_at;
  round_began_ = now();
  round_began_bytes_ = progress_.sent_bytes;
  report();
}

bool source::fits_downtime() const noexcept {
  return progress_.remaining_bytes == 0 || time_for(progress_.remaining_bytes, progress_.bandwidth_bytes_per_s) <=
                                               std::chrono::nanoseconds(options_.downtime_target);
}

void source::report() {
  progress_.elapsed = now() - began_;
  progress_.predicted.send = progress_.remaining_bytes == 0
                                     ? std::chrono::nanoseconds(0)
                                     : time_for(progress_.remaining_bytes, progress_.bandwidth_bytes_per_s);
  progress_.phase = paused_ ? migration_phase::stop_and_copy : migration_phase::pre_copy;
  if (on_progress_) on_progress_(progress_);
}

task<result<void>> source::send_round() {
  std::optional<error> failure;
  ring::latch senders(batches_in_flight);
  for (std::size_t i = 0; i < batches_in_flight; ++i)
    ring::start([](task<void> sender, ring::latch& done) -> task<> {
      co_await std::move(sender);
      done.count_down();
    }(send_batches(failure), senders));
  co_await senders;
  if (failure) co_return *failure;
  co_return check_cancelled();
}

task<void> source::send_batches(std::optional<error>& failure) {
  while (!failure && !cancelled_) {
    auto batch = co_await with_.stream.async_next(here_);
    if (!batch) failure = batch.error();
    if (!batch || batch->empty()) co_return;
    auto sent = co_await on_channel(with_.to.send_pages({batch->runs().begin(), batch->runs().end()}, with_.space.blocks()));
    if (!sent) {
      failure = sent.error();
      co_return;
    }
    batch->acknowledge();
    const auto bytes = batch->pages() * page_bytes;
    progress_.sent_bytes += bytes;
    progress_.remaining_bytes -= std::min(progress_.remaining_bytes, bytes);
    progress_.bandwidth_bytes_per_s = per_second(progress_.sent_bytes - round_began_bytes_, now() - round_began_);
    report();
  }
}

task<result<void>> source::stop_and_copy() {
  summary_.predicted = progress_.predicted;
  paused_at_ = now();
  paused_ = true;
  if (auto done = co_await pause_guest(with_.vm, here_); !done) co_return done;
  const auto before = progress_.sent_bytes;
  auto round = co_await with_.stream.async_begin_round(here_);
  if (!round) co_return round.error();
  progress_.remaining_bytes = round->dirty_pages * page_bytes;
  round_began_ = now();
  round_began_bytes_ = before;
  report();
  if (auto sent = co_await send_round(); !sent) co_return sent;
  summary_.stop_and_copy_bytes = progress_.sent_bytes - before;
  co_return result<void>{};
}

/// On the channel's loop: hands the guest over, and waits until the destination says that it runs.
task<result<frame>> source::go(channel& to) {
  if (auto sent = co_await to.send(frame_type::go); !sent) co_return sent.error();
  co_return co_await to.expect(frame_type::running);
}

task<result<void>> source::hand_over() {
  boost::json::object total;
  total["pages"] = progress_.sent_bytes / page_bytes;
  auto sent = co_await on_channel(with_.to.send(frame_type::final, boost::json::serialize(total)));
  if (!sent) co_return sent;
  auto ready = co_await on_channel(with_.to.expect(frame_type::ready));
  if (!ready) co_return ready.error();
  // Tracking ends while this side still owns the guest: after `go` nothing here may fail the migration.
  if (auto stopped = co_await with_.stream.async_stop(here_); !stopped) co_return stopped;
  tracking_ = false;
  if (auto go_on = check_cancelled(); !go_on) co_return go_on;

  handed_over_ = true;
  auto running = co_await on_channel(go(with_.to));
  if (!running) {
    auto failure = make_error(operation::migrate, errc::undecided, {}, running.error().message());
    failure.undone = "the guest stays paused here: look whether the destination runs it before you resume it";
    co_return failure;
  }
  summary_.blackout.send = now() - paused_at_;
  co_return result<void>{};
}

task<result<void>> source::compare() {
  const auto sums =
      co_await ring::offload(with_.threads, with_.executor, [this] { return checksums_of(with_.space.blocks()); });
  if (auto sent = co_await on_channel(with_.to.send(frame_type::checksums, encode_checksums(sums))); !sent) co_return sent;
  auto verdict = co_await on_channel(with_.to.expect(frame_type::verdict));
  if (!verdict) co_return verdict.error();
  const auto said = decode_object(verdict->body);
  const auto differing = said ? text_in(*said, "differing") : said.error();
  if (!differing) co_return differing.error();
  if (!differing->empty())
    co_return make_error(operation::migrate, errc::not_identical, {}, "RAM blocks that differ: " + *differing);
  summary_.compared = true;
  co_return result<void>{};
}

}  // namespace tidemark::migrate
