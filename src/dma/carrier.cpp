// SPDX-License-Identifier: Apache-2.0

#include "dma/carrier.hpp"

#include <boost/asio/error.hpp>

#include <algorithm>
#include <iterator>
#include <utility>

#include "dma/range_lock.hpp"

namespace tidemark::dma {

namespace {

/// How many requests that wait are looked through for some that may overtake: each is compared with those before it.
constexpr std::size_t looked_through_max = 64;

container_request& as_request(lane::request& item) { return static_cast<container_request&>(item); }

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
  while (!waiting_.empty() && !under_way_) {
    if (closing) {
      refuse_all(waiting_, done);
      break;
    }
    if (is_large(as_request(waiting_.front()))) {
      lane::batch alone;
      alone.splice(alone.end(), waiting_, waiting_.begin());
      gather(alone, main_);
      under_way_ = begin(main_, closing);
      if (!under_way_) finish(main_, done);
    } else {
      lane::batch next;
      const auto large =
          std::find_if(waiting_.begin(), waiting_.end(), [this](lane::request& item) { return is_large(as_request(item)); });
      next.splice(next.end(), waiting_, waiting_.begin(), large);
      carry_out(next, done, closing);
    }
  }
  return under_way_;
}

/// All of them, to their end: none is large.
void carrier::carry_out(lane::batch& taken, lane::batch& done, const std::atomic<bool>& closing) {
  while (!taken.empty()) {
    if (closing) return refuse_all(taken, done);
    auto& first = as_request(taken.front());
    if (!first.is_change()) {
      call(first);
      done.splice(done.end(), taken, taken.begin());
      continue;
    }
    gather(taken, between_);
    begin(between_, closing);
    finish(between_, done);
  }
}

/// Takes the changes at the front.
void carrier::gather(lane::batch& taken, work& into) {
  into.requests.clear();
  into.changes.clear();
  into.dirty.clear();
  while (!taken.empty()) {
    auto* one = as_request(taken.front()).as_change();
    if (one == nullptr) break;
    add(*one, into);
    into.owned.splice(into.owned.end(), taken, taken.begin());
  }
}

void carrier::add(change_request& one, work& to) {
  const auto number = one.changes().size() > 1 ? static_cast<std::uint32_t>(to.changes.size() + 1) : 0;
  for (const auto& asked : one.changes()) {
    to.requests.push_back(&one);
    to.changes.push_back(asked);
    to.changes.back().transaction = number;
    to.dirty.push_back(one.dirty());
  }
}

/// True when a cut map is left under way.
bool carrier::begin(work& which, const std::atomic<bool>& closing) {
  if (which.changes.empty()) return false;  // a transaction of nothing
  const auto driver = file_.driver(which.changes.front().what == change::kind::map ? operation::map : operation::unmap,
                                   which.changes.front().at);
  if (!driver) return fail_all(which, driver.error()), false;
  which.run.begin(which.changes, which.dirty, limits());
  if (&which == &main_) return which.run.advance(**driver, closing);
  while (which.run.advance(**driver, closing)) {
  }
  return false;
}

void carrier::finish(work& which, lane::batch& done) {
  auto& outcomes = which.run.outcomes();
  for (std::size_t i = 0; i < outcomes.size() && i < which.requests.size(); ++i) {
    if (outcomes[i].failure) {
      which.requests[i]->fail(std::move(*outcomes[i].failure));
    } else {
      which.requests[i]->succeed(outcomes[i].bytes + outcomes[i].cancelled);
    }
  }
  done.splice(done.end(), which.owned);
}

void carrier::fail_all(work& which, const error& why) {
  which.run.outcomes().clear();
  for (std::size_t i = 0; i < which.requests.size(); ++i) {
    error own = why;
    own.what = which.changes[i].what == change::kind::map ? operation::map : operation::unmap;
    own.range = which.changes[i].at;
    which.requests[i]->fail(std::move(own));
  }
}

void carrier::call(container_request& which) {
  which.call(file_);
  const auto reads = file_.info_reads();
  if (std::exchange(info_reads_, reads) == reads) return;
  auto info = file_.info();
  if (!info) book_.clear();  // the last group took the mappings with it
  info_ = info ? std::move(*info) : container_info{};
  const auto held = std::uint64_t{book_.size()};
  budget_ = info_.mappings_available + std::min(held, ~info_.mappings_available);  // some drivers know no limit
}

std::uint64_t carrier::piece_bytes() const { return info_.can_cut_maps ? piece_bytes_ : std::uint64_t{1} << 63; }

bool carrier::is_large(const container_request& which) const {
  return which.is_change() && which.range().size > piece_bytes();
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
  const auto meets = [&](const container_request& other) { return overlap(which.range(), other.range()); };
  return std::none_of(main_.requests.begin(), main_.requests.end(), [&](const auto* other) { return meets(*other); }) &&
         std::none_of(before.begin(), before.end(),
                      [&](const lane::request& other) { return meets(static_cast<const container_request&>(other)); });
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
