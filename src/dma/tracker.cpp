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

task<result<void>> tracker::start_logs(std::vector<device> of, std::vector<iova_range> ranges) {
  co_return co_await in_lane(operation::start_dirty_tracking, {},
                             [&](const lane_place&) { return dma::start_logs(of, ranges); });
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

task<result<void>> tracker::start(dirty_sink& to, shown_parts held) {
  knows_only_all_ = false;
  result<void> started;
  if (can_all_log()) {
    auto ranges = ranges_of(held);
    started = co_await start_logs(devices(), ranges);
    if (started) {
      teller_ = teller::devices;
      armed_ = std::move(ranges);
    } else {
      warn(started.error());
    }
  }
  if (teller_ != teller::devices) started = co_await start_container();
  if (started) sink_ = &to;
  co_return started;
}

task<void> tracker::join(dirty_sink& to) {
  auto started = co_await start(to, shown_parts());
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

task<void> tracker::add_device(device coming, bool may_log, shown_parts held) {
  members_.push_back({coming, may_log});
  if (!sink_) co_return;
  if (teller_ != teller::devices) {
    if (members_.size() == 1 && can_all_log()) co_await log_first_device(held);
    co_return;
  }
  if (can_all_log()) {
    const auto started = co_await start_logs(std::vector<device>(1, coming), armed_);
    if (started) co_return;
    warn(started.error());
  }
  co_await change_to_container(std::move(held));
}

/// The container has tracked so far, and nothing could write.
task<void> tracker::log_first_device(const shown_parts& held) {
  auto ranges = ranges_of(held);
  if (auto started = co_await start_logs(devices(), ranges); !started) {
    warn(started.error());
    co_return;
  }
  if (std::exchange(teller_, teller::devices) == teller::container)
    (void)co_await container_.async_stop_dirty_tracking(resume_on{executor_});
  armed_ = std::move(ranges);
}

/// Before the logs are read for the last time. A device that logs nothing answers with an error, and all is dirty.
task<void> tracker::change_to_container(shown_parts held) {
  const auto logging = std::vector<device>(devices());
  if (auto started = co_await start_container(); !started) warn(started.error());
  (void)co_await in_lane(operation::query_dirty, {}, [&](const lane_place& in) -> result<void> {
    const std::span<const device> those_before(logging.data(), logging.size() - 1);
    reading last(std::move(held));
    read_logs(in, those_before, last, *sink_, all_of_it);
    return dma::stop_logs(those_before);
  });
  armed_.clear();
}

task<result<void>> tracker::close_device(device going, shown_parts held) {
  const auto others_too = devices();
  const bool logs = sink_ && teller_ == teller::devices;
  auto closed = co_await in_lane(operation::detach, {}, [&](const lane_place& in) -> result<void> {
    reading last(std::move(held));
    if (logs) read_logs(in, others_too, last, *sink_, all_of_it);
    going.close();  // which ends its log
    return {};
  });
  if (closed) std::erase_if(members_, [&](const member& one) { return one.which == going; });
  co_return closed;
}

// --- parts that will come ---

task<void> tracker::cover(shown_part coming, std::function<shown_parts()> held) {
  if (!sink_) co_return;
  coming_.push_back(coming);
  const auto is_covered = [&] { return teller_ != teller::devices || is_within(armed_, coming.at); };
  if (is_covered()) co_return;
  const auto turn = co_await rearms_.lock();
  if (is_covered() || knows_only_all_) co_return;  // by who had the turn before
  auto all = held();
  all.insert(all.end(), coming_.begin(), coming_.end());
  co_await rearm(std::move(all));
}

void tracker::settle(iova_range came) {
  std::erase_if(coming_, [&](const shown_part& part) { return part.at == came; });
}

// What was logged stays so: others may be about to read there.
task<void> tracker::rearm(shown_parts held) {
  auto ranges = ranges_of(held, armed_);
  const auto of = devices();
  auto outcome = rearmed::cannot_track;
  const auto called = co_await in_lane(operation::start_dirty_tracking, {}, [&](const lane_place& in) -> result<void> {
    outcome = dma::rearm(in, of, ranges, held, *sink_);
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
      break;
  }
}

// --- reading ---

task<void> tracker::read(shown_parts parts, iova_range hull) {
  if (parts.empty()) co_return;
  if (teller_ == teller::nobody) co_return co_await read_by_nobody(std::move(parts), hull, dirty_origin::untracked);
  shown_parts not_logged;
  if (teller_ == teller::devices) {
    if (members_.empty()) co_return;  // the last has been read
    const auto logged = std::stable_partition(parts.begin(), parts.end(),
                                              [&](const shown_part& part) { return is_within(armed_, part.at); });
    not_logged.assign(logged, parts.end());
    parts.erase(logged, parts.end());
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
  while (!todo.is_over()) {
    const auto read = co_await in_lane(operation::query_dirty, hull, [&](const lane_place& in) -> result<void> {
      by_logs ? read_logs(in, of, todo, to, bytes_a_turn) : read_container(in, todo, to, bytes_a_turn);
      return {};
    });
    if (!read) tell_all(todo, to.from(dirty_origin::lost));
  }
}

// --- parts that go ---

task<result<void>> tracker::unmap(shown_part part, std::uint64_t page_size) {
  if (!sink_) co_return co_await unmap_plain(part.at);
  if (teller_ == teller::container) co_return co_await unmap_with_bitmap(part, page_size);
  // Before, for what a device forgets with its mappings; and behind, for what it wrote up to then (R17).
  if (teller_ == teller::devices) co_await read(shown_parts(1, part), part.at);
  auto unmapped = co_await unmap_plain(part.at);
  if (sink_) co_await read(shown_parts(1, part), part.at);
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
