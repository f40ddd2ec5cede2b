// SPDX-License-Identifier: Apache-2.0

#include "dma/carrier.hpp"

#include <boost/asio/error.hpp>

#include <algorithm>
#include <iterator>
#include <utility>

#include "dma/plain_plan.hpp"
#include "dma/range_lock.hpp"

namespace tidemark::dma {

namespace {

/// How many requests that wait are looked through for some that may overtake: each is compared with those before it.
constexpr std::size_t looked_through_max = 64;

container_request& as_request(lane::request& item) { return static_cast<container_request&>(item); }
change_request& as_change(lane::request& item) { return static_cast<change_request&>(item); }

}  // namespace

carrier::carrier(kernel::files& kernel, container_options options, std::uint64_t piece_bytes)
    : file_(kernel, options), piece_bytes_(piece_bytes), main_(book_, options.warn), between_(book_, options.warn) {}

carrier::~carrier() { waiting_.clear_and_dispose(std::default_delete<lane::request>()); }

bool carrier::turn(lane::batch& taken, lane::batch& done, const std::atomic<bool>& closing) {
  waiting_.splice(waiting_.end(), taken);
  if (under_way_) {
    auto quick = overtaking();
    carry_out(quick, done, closing);
    const auto driver = file_.driver(operation::map, {});
    under_way_ = driver && main_.run.advance(**driver, closing);
    if (under_way_) return true;
    finish(main_, done);
  }
  for (;;) {
    carry_out(waiting_, done, closing);
    if (waiting_.empty()) return false;
    main_.requests.splice(main_.requests.end(), waiting_, waiting_.begin());
    main_.changes = as_change(main_.requests.front()).changes();
    under_way_ = begin(main_, closing, done);
    if (under_way_) return true;
    finish(main_, done);
  }
}

/// All of them up to the first that is large, to their end. While closing: none, and all are refused.
void carrier::carry_out(lane::batch& from, lane::batch& done, const std::atomic<bool>& closing) {
  while (!from.empty()) {
    if (closing) return refuse_all(from, done);
    auto& first = as_request(from.front());
    if (is_large(first)) return;
    if (!first.is_change()) {
      call(first, closing);
      done.splice(done.end(), from, from.begin());
    } else if (std::next(from.begin()) == from.end() && carry_out_alone(as_change(from.front()))) {
      done.splice(done.end(), from);
    } else {
      gather(from, between_);
      begin(between_, closing, done);
      finish(between_, done);
    }
  }
}

/// What one small request after the other comes to. False: it needs a plan.
bool carrier::carry_out_alone(change_request& only) {
  if (only.changes().size() != 1) return false;
  const auto& asked = only.changes().front();
  if (asked.transaction != 0) return false;
  const auto driver = file_.driver(operation::map, {});
  plan_step step;
  if (!driver || !plan_alone(book_, asked, limits(), step)) return false;
  auto& outcome = between_.run.carry_out(asked, step, info_.page_size(), **driver);
  outcome.failure ? only.fail(std::move(outcome.failure)) : only.succeed(outcome.bytes);
  return true;
}

/// Takes the changes at the front that are not large: the first is one.
void carrier::gather(lane::batch& from, work& into) {
  const auto is_next = [&](lane::request& item) { return as_request(item).is_change() && !is_large(as_request(item)); };
  const auto end = std::find_if_not(std::next(from.begin()), from.end(), is_next);
  into.requests.splice(into.requests.end(), from, from.begin(), end);
  if (std::next(into.requests.begin()) == into.requests.end()) {
    into.changes = as_change(into.requests.front()).changes();
    return;
  }
  into.copies.clear();
  for (auto& item : into.requests) {
    const auto number = static_cast<std::uint32_t>(into.copies.size() + 1);
    for (const auto& asked : as_change(item).changes()) {
      into.copies.push_back(asked);
      if (asked.transaction != 0) into.copies.back().transaction = number;
    }
  }
  into.changes = into.copies;
}

/// True when a cut map is left under way.
bool carrier::begin(work& which, const std::atomic<bool>& closing, lane::batch& done) {
  if (which.changes.empty()) return false;  // a transaction of nothing
  const auto driver = file_.driver(which.changes.front().what == change::kind::map ? operation::map : operation::unmap,
                                   which.changes.front().at);
  if (!driver) return fail_all(which, driver.error(), done), false;
  which.run.begin(which.changes, limits());
  if (&which == &main_) return which.run.advance(**driver, closing);
  while (which.run.advance(**driver, closing)) {
  }
  return false;
}

void carrier::finish(work& which, lane::batch& done) {
  auto outcome = which.run.outcomes().begin();
  for (auto& item : which.requests) {
    auto& request = as_change(item);
    std::unique_ptr<error> failure;
    std::uint64_t bytes = 0;
    for (auto left = request.changes().size(); left != 0; --left, ++outcome) {
      bytes += outcome->bytes + outcome->cancelled;
      if (!failure) failure = std::move(outcome->failure);
    }
    failure ? request.fail(std::move(failure)) : request.succeed(bytes);
  }
  done.splice(done.end(), which.requests);
}

void carrier::fail_all(work& which, const error& why, lane::batch& done) {
  for (auto& item : which.requests) {
    auto& request = as_change(item);
    auto own = std::make_unique<error>(why);
    if (const auto changes = request.changes(); !changes.empty()) {
      own->what = changes.front().what == change::kind::map ? operation::map : operation::unmap;
      own->range = changes.front().at;
    }
    request.fail(std::move(own));
  }
  done.splice(done.end(), which.requests);
}

void carrier::call(container_request& which, const std::atomic<bool>& closing) {
  which.call({file_, book_, closing, scratch_});
  const auto reads = file_.info_reads();
  if (std::exchange(info_reads_, reads) == reads) return;
  auto info = file_.info();
  if (!info) book_.clear();  // the last group took the mappings with it
  info_ = info ? std::move(*info) : container_info{};
  const auto held = info_.tells_mappings_available ? std::uint64_t{book_.size()} : 0;
  budget_ = info_.mappings_available + std::min(held, ~info_.mappings_available);  // some drivers know no limit
}

bool carrier::is_large(const container_request& which) const {
  return which.range().size > piece_bytes() && which.is_change();
}

/// What waits and need not.
lane::batch carrier::overtaking() {
  lane::batch quick;
  lane::batch looked_through;
  for (std::size_t i = 0; i < looked_through_max && !waiting_.empty(); ++i) {
    auto& which = as_request(waiting_.front());
    const bool may = may_overtake(which, looked_through);
    auto& to = may ? quick : looked_through;
    to.splice(to.end(), waiting_, waiting_.begin());
    if (!may && which.is_barrier()) break;
  }
  waiting_.splice(waiting_.begin(), looked_through);
  return quick;
}

bool carrier::may_overtake(const container_request& which, const lane::batch& before) const {
  if (which.is_barrier() || is_large(which)) return false;
  const auto meets_none = [&](const lane::batch& others) {
    return std::none_of(others.begin(), others.end(), [&](const lane::request& other) {
      return overlap(which.range(), static_cast<const container_request&>(other).range());
    });
  };
  return meets_none(main_.requests) && meets_none(before);
}

plan_limits carrier::limits() const {
  const auto taken = book_.size() + (under_way_ ? main_.run.left() : 0);  // a cut map will need the rest of its pieces
  return {.page_size = info_.page_size(),
          .windows = info_.windows,
          .mappings_available = budget_ > taken ? budget_ - taken : 0,
          .piece_bytes = piece_bytes(),
          .can_unmap_all = info_.can_unmap_all,
          .can_unmap_gaps = info_.can_unmap_gaps};
}

void carrier::refuse_all(lane::batch& which, lane::batch& done) {
  for (auto& item : which) item.refuse(boost::asio::error::operation_aborted);
  done.splice(done.end(), which);
}

}  // namespace tidemark::dma
