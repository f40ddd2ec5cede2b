// SPDX-License-Identifier: Apache-2.0

#include "dma/tracker.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "backend/device_log.hpp"
#include "core/bitmap.hpp"
#include "dma/logged_ranges.hpp"
#include "dma/rearm.hpp"
#include "ring/await.hpp"

namespace tidemark::dma {

using ring::resume_on;
using ring::task;

namespace {

constexpr std::uint64_t all_of_it = std::numeric_limits<std::uint64_t>::max();
/// IOVAs that are read before others get their turn in the lane.
constexpr std::uint64_t bytes_a_turn = 128ULL << 30;
/// Up to here a bitmap is merged on the executor at once: some microseconds.
constexpr std::size_t words_told_at_once = 4096;

/// With those of `more`.
std::vector<iova_range> ranges_of(const shown_parts& parts, std::vector<iova_range> more = {}) {
  auto ranges = std::move(more);
  ranges.reserve(ranges.size() + parts.size());
  for (const auto& part : parts) ranges.push_back(part.at);
  return logged_ranges(std::move(ranges), backend::logged_ranges_max());
}

bool is(const error& what, errc which) { return what.code == make_error_code(which); }

}  // namespace

task<result<void>> tracker::in_lane(operation what, iova_range range, lane_calls::call work) {
  co_return co_await lane_calls::async_call(container_, what, range, std::move(work), resume_on{executor_});
}

// --- who tells ---

bool tracker::can_all_log() const {
  return !members_.empty() && std::all_of(members_.begin(), members_.end(),
                                          [](const member& one) { return one.may_log && one.which.info().logs_dma; });
}

std::vector<device> tracker::devices() const {
  std::vector<device> list;
  for (const auto& one : members_) list.push_back(one.which);
  return list;
}

task<result<void>> tracker::stop_logs() {
  const auto of = devices();
  co_return co_await in_lane(operation::stop_dirty_tracking, {}, [&](const lane_place&) { return dma::stop_logs(of); });
}

task<result<void>> tracker::start_container() {
  auto started = co_await container_.async_start_dirty_tracking(resume_on{executor_});
  teller_ = started ? teller::container : teller::nobody;
  if (!started && is(started.error(), errc::dirty_not_supported)) co_return result<void>{};
  co_return started;
}

/// These devices log all that is held, from now on. Where nothing is, START would be refused, and is not needed.
task<result<void>> tracker::arm(std::vector<device> of, shown_parts held) {
  std::vector<iova_range> ranges;
  auto armed = co_await in_lane(operation::start_dirty_tracking, {}, [&](const lane_place&) -> result<void> {
    ranges = ranges_of(held, armed_);
    return ranges.empty() ? result<void>{} : dma::start_logs(of, ranges);
  });
  if (armed) armed_ = std::move(ranges);
  co_return armed;
}

task<result<void>> tracker::start(dirty_sink& to, held_call held) {
  knows_only_all_ = has_failed_ = false;
  result<void> started;
  if (can_all_log()) {
    started = co_await arm(devices(), held());
    if (started) {
      teller_ = teller::devices;
    } else {
      warn(started.error());
    }
  }
  if (teller_ != teller::devices) started = co_await start_container();
  if (started) sink_ = &to;
  co_return started;
}

task<void> tracker::join(dirty_sink& to) {
  auto started = co_await start(to, [] { return shown_parts(); });
  if (!started) warn(started.error());
  sink_ = &to;
}

task<result<void>> tracker::stop() {
  sink_ = nullptr;
  armed_.clear();
  switch (std::exchange(teller_, teller::nobody)) {
    case teller::devices: {
      auto stopped = co_await stop_logs();
      co_return stopped;
    }
    case teller::container: {
      auto stopped = co_await container_.async_stop_dirty_tracking(resume_on{executor_});
      co_return stopped;
    }
    case teller::nobody:
      break;
  }
  co_return result<void>{};
}

// --- devices that come and go ---

task<void> tracker::add_device(device coming, bool may_log, held_call held) {
  members_.push_back({coming, may_log});
  if (!sink_) co_return;
  if (teller_ != teller::devices) {
    if (members_.size() == 1 && can_all_log()) co_await log_first_device(held());
    co_return;
  }
  if (can_all_log()) {
    const auto started = co_await arm(std::vector<device>(1, coming), shown_parts());
    if (started) co_return;
    warn(started.error());
  }
  co_await change_to_container(held());
}

/// The container has tracked so far, and nothing could write.
task<void> tracker::log_first_device(shown_parts held) {
  if (auto started = co_await arm(devices(), std::move(held)); !started) {
    warn(started.error());
    co_return;
  }
  if (std::exchange(teller_, teller::devices) == teller::container)
    (void)co_await container_.async_stop_dirty_tracking(resume_on{executor_});
}

/// Before the logs are read for the last time. What cannot be asked for any more is lost.
task<void> tracker::change_to_container(shown_parts held) {
  auto those_before = devices();
  those_before.pop_back();
  auto unlogged = take_unlogged(held);
  if (auto started = co_await start_container(); !started) warn(started.error());
  armed_.clear();
  reading last(std::move(held));
  bool complete = true;
  const auto read = co_await in_lane(operation::query_dirty, {}, [&](const lane_place& in) -> result<void> {
    complete = read_logs(in, those_before, last, *sink_, all_of_it);
    (void)dma::stop_logs(those_before);
    return {};
  });
  if (!complete) has_failed_ = true;
  if (!read) tell_all(last, sink_->from(dirty_origin::lost));
  if (!unlogged.empty()) co_await read_by_nobody(std::move(unlogged), iova_range{}, dirty_origin::untracked);
}

task<result<void>> tracker::close_device(device going, held_call held) {
  const auto all = devices();
  const bool logs = sink_ && teller_ == teller::devices;
  auto parts = logs ? held() : shown_parts();
  auto unlogged = take_unlogged(parts);
  reading last(std::move(parts));
  bool complete = true;
  auto closed = co_await in_lane(operation::detach, {}, [&](const lane_place& in) -> result<void> {
    if (logs) complete = read_logs(in, all, last, *sink_, all_of_it);
    going.close();  // which ends its log
    return {};
  });
  if (!complete) has_failed_ = true;
  if (!closed) co_return closed;
  std::erase_if(members_, [&](const member& one) { return one.which == going; });
  if (!unlogged.empty()) co_await read_by_nobody(std::move(unlogged), iova_range{}, dirty_origin::untracked);
  co_return closed;
}

// --- parts that will come ---

/// What the devices do not log. The rest is left.
shown_parts tracker::take_unlogged(shown_parts& parts) const {
  const auto unlogged =
      std::stable_partition(parts.begin(), parts.end(), [&](const shown_part& part) { return is_within(armed_, part.at); });
  shown_parts taken(unlogged, parts.end());
  parts.erase(unlogged, parts.end());
  return taken;
}

task<void> tracker::cover(shown_part coming, held_call held) {
  if (!sink_) co_return;
  coming_.push_back(coming);
  const auto needs_nothing = [&] {
    return teller_ != teller::devices || members_.empty() || knows_only_all_ || is_within(armed_, coming.at);
  };
  if (needs_nothing()) co_return;
  const auto turn = co_await rearms_.lock();
  if (needs_nothing()) co_return;  // by who had the turn before
  if (armed_.empty()) {
    co_await arm_first(std::move(held));
  } else {
    co_await rearm(std::move(held));
  }
}

void tracker::settle(iova_range came) {
  std::erase_if(coming_, [&](const shown_part& part) { return part.at == came; });
}

/// There was nothing to log when tracking started, and nothing is mapped.
task<void> tracker::arm_first(held_call held) {
  auto all = held();
  all.insert(all.end(), coming_.begin(), coming_.end());
  const auto started = co_await arm(devices(), std::move(all));
  if (started) co_return;
  warn(started.error());
  if (auto instead = co_await start_container(); !instead) warn(instead.error());
}

// What was logged stays so: others may be about to read there. What comes and is logged already may be mapped by now.
task<void> tracker::rearm(held_call held) {
  auto parts = held();
  auto all = parts;
  all.insert(all.end(), coming_.begin(), coming_.end());
  auto ranges = ranges_of(all, armed_);
  auto logged = all;
  (void)take_unlogged(logged);
  auto unlogged = take_unlogged(parts);
  const auto of = devices();
  auto outcome = rearmed::cannot_track;
  const auto called = co_await in_lane(operation::start_dirty_tracking, {}, [&](const lane_place& in) -> result<void> {
    outcome = dma::rearm(in, of, ranges, logged, all, *sink_);
    return {};
  });
  if (!called) co_return;
  switch (outcome) {
    case rearmed::yes:
      armed_ = std::move(ranges);
      break;
    case rearmed::container_goes_on:
      teller_ = teller::container;
      armed_.clear();
      break;
    case rearmed::knows_only_all:
    case rearmed::cannot_track:
      knows_only_all_ = true;
      co_return;
  }
  if (!unlogged.empty()) co_await read_by_nobody(std::move(unlogged), iova_range{}, dirty_origin::untracked);
}

// --- failures ---

task<void> tracker::recover(held_call held) {
  if (!std::exchange(has_failed_, false) || !sink_) co_return;
  if (teller_ == teller::devices && !members_.empty()) {
    const auto of = devices();
    const auto ranges = armed_;
    const auto again = co_await in_lane(operation::start_dirty_tracking, {}, [&](const lane_place&) -> result<void> {
      (void)dma::stop_logs(of);
      return dma::start_logs(of, ranges);
    });
    if (!again) {
      warn(again.error());
      armed_.clear();
      if (auto instead = co_await start_container(); !instead) warn(instead.error());
    }
  }
  co_await read_by_nobody(held(), iova_range{}, dirty_origin::lost);
}

// --- reading ---

task<void> tracker::read(shown_parts parts, iova_range hull) {
  if (parts.empty()) co_return;
  if (teller_ == teller::nobody) co_return co_await read_by_nobody(std::move(parts), hull, dirty_origin::untracked);
  shown_parts not_logged;
  if (teller_ == teller::devices) {
    if (members_.empty()) co_return;  // the last has been read
    not_logged = take_unlogged(parts);
  }
  co_await read_by_teller(std::move(parts), hull);
  if (!not_logged.empty()) co_await read_by_nobody(std::move(not_logged), hull, dirty_origin::untracked);
}

/// In the lane, too: a terabyte takes milliseconds to mark.
task<void> tracker::read_by_nobody(shown_parts parts, iova_range hull, dirty_origin why) {
  reading all(std::move(parts));
  auto& to = sink_->from(why);
  const auto told = co_await in_lane(operation::query_dirty, hull, [&](const lane_place&) -> result<void> {
    tell_all(all, to);
    return {};
  });
  if (!told) tell_all(all, to);
}

task<void> tracker::read_by_teller(shown_parts parts, iova_range hull) {
  reading todo(std::move(parts));
  const bool by_logs = teller_ == teller::devices;
  const auto of = by_logs ? devices() : std::vector<device>{};
  auto& to = *sink_;
  bool complete = true;
  while (!todo.is_over()) {
    const auto read = co_await in_lane(operation::query_dirty, hull, [&](const lane_place& in) -> result<void> {
      if (!by_logs) {
        read_container(in, todo, to, bytes_a_turn);
      } else if (!read_logs(in, of, todo, to, bytes_a_turn)) {
        complete = false;
      }
      return {};
    });
    if (!read) tell_all(todo, to.from(dirty_origin::lost));
  }
  if (!complete) has_failed_ = true;
}

// --- parts that go ---

task<result<void>> tracker::unmap(shown_part part, std::uint64_t page_size) {
  if (!sink_) co_return co_await unmap_plain(part.at);
  if (teller_ == teller::container) co_return co_await unmap_with_bitmap(part, page_size);
  // Before, for what a device forgets with its mappings; and behind, for what it wrote up to then (R17).
  if (teller_ == teller::devices) co_await read(shown_parts(1, part), part.at);
  const auto asked = teller_;
  auto unmapped = co_await unmap_plain(part.at);
  if (!sink_) co_return unmapped;
  if (teller_ == asked) {
    co_await read(shown_parts(1, part), part.at);
  } else {  // who tells now had not been told to keep what goes with the mapping
    co_await read_by_nobody(shown_parts(1, part), part.at, dirty_origin::lost);
  }
  co_return unmapped;
}

task<result<void>> tracker::unmap_plain(iova_range range) {
  auto unmapped = co_await container_.async_unmap(range, resume_on{executor_});
  if (!unmapped) co_return unmapped.error();
  co_return result<void>{};
}

task<result<void>> tracker::unmap_with_bitmap(shown_part part, std::uint64_t page_size) {
  const auto words = core::words_for(part.at.size / page_size);
  const auto bits = std::make_unique_for_overwrite<std::uint64_t[]>(words);  // the lane zeroes it: of a terabyte 32 MiB
  auto unmapped = co_await container_.async_unmap(part.at, {bits.get(), words}, resume_on{executor_});
  if (unmapped) {
    co_await tell(part, page_size, {bits.get(), words});
    co_return result<void>{};
  }
  if (!is(unmapped.error(), errc::dirty_not_supported) && !is(unmapped.error(), errc::bitmap_too_large)) {
    co_await read_by_nobody(shown_parts(1, part), part.at, dirty_origin::lost);  // what the kernel had recorded may be gone
    co_return unmapped.error();
  }
  // It was not even asked: a group that came has changed what it can track, or a mapping is too large.
  auto plain = co_await unmap_plain(part.at);
  if (sink_) co_await read_by_nobody(shown_parts(1, part), part.at, dirty_origin::untracked);
  co_return plain;
}

task<void> tracker::tell(shown_part part, std::uint64_t page_size, std::span<const std::uint64_t> bits) {
  auto& to = sink_->from(dirty_origin::container);
  const auto work = [&](const lane_place&) -> result<void> {
    report(to, part, page_size, bits);
    return {};
  };
  if (bits.size() > words_told_at_once) {
    const auto told = co_await in_lane(operation::query_dirty, part.at, work);
    if (told) co_return;
  }
  report(to, part, page_size, bits);
}

}  // namespace tidemark::dma
