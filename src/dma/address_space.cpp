// SPDX-License-Identifier: Apache-2.0

#include <tidemark/address_space.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "core/bitmap.hpp"
#include "dma/attachments.hpp"
#include "dma/range_lock.hpp"
#include "ring/await.hpp"

namespace tidemark {

using ring::resume_on;
using ring::task;

namespace {

constexpr iova_range everything{0, ~std::uint64_t{0}};

task<result<void>> nothing() { co_return result<void>{}; }

std::optional<error> first_failure(const std::vector<result<void>>& outcomes) {
  for (const auto& outcome : outcomes)
    if (!outcome) return outcome.error();
  return std::nullopt;
}

/// What error::undone says after everything done was asked to be taken back.
std::string taken_back(std::string when_all_was, const std::vector<result<void>>& outcomes) {
  const auto failed = first_failure(outcomes);
  return failed ? "not undone everywhere: " + failed->message() : std::move(when_all_was);
}

/// Whether the container was not even asked: a group that came has changed what it can track.
bool cannot_tell(const error& what) {
  return what.code == make_error_code(errc::dirty_not_supported) || what.code == make_error_code(errc::bitmap_too_large);
}

bool page_aligned(std::uint64_t value) noexcept { return value % page_bytes == 0; }

bool wraps(const iova_range& range) noexcept { return range.size != 0 && range.iova + (range.size - 1) < range.iova; }

}  // namespace

class address_space::state final : public dma::container_user {
 public:
  state(const any_io_executor& executor, host& host) : executor_(executor), attachments_(executor, host, *this) {}

  result<block_index> add_block(ram_block block);
  const std::vector<ram_block>& blocks() const noexcept { return blocks_; }
  std::vector<region> regions() const;

  dma::attachments& attachments() noexcept { return attachments_; }
  task<result<void>> join(container& coming) override;
  task<result<void>> leave(container& going, unsigned last_group) override;

  task<result<void>> add(region added);
  task<result<void>> remove(iova_range range);
  task<result<void>> start_tracking(dirty_sink& sink);
  task<result<void>> sync();
  task<result<void>> stop_tracking();

 private:
  /// A container in use, and whether the kernel tracks what its devices dirty.
  struct member {
    container* where;
    bool tracking = false;
  };
  using members = std::vector<member>;

  static result<void> check_shape(const region& added);
  result<void> check_place(const region& added) const;
  mapping mapping_of(const region& shown) const;

  /// One outcome for each member, all asked before any is awaited: so lanes see requests in the order of the events.
  template <class Ask>
  task<std::vector<result<void>>> ask_all(Ask ask);

  task<result<void>> map_in_all(region added);
  task<result<void>> unmap_in_all(region gone);
  task<result<void>> map(member in, region added);
  task<result<void>> unmap(member in, region gone);
  task<result<void>> query(member in, region shown);
  task<result<void>> sync_region(iova_range range);
  template <class Ask>
  task<void> ask_of_regions(Ask ask);
  task<result<void>> replay(container& added);
  void mark_all(const region& shown);

  any_io_executor executor_;
  std::vector<ram_block> blocks_;
  std::map<std::uint64_t, region> regions_;  // by IOVA
  members members_;
  dma::range_lock ranges_;
  dirty_sink* sink_ = nullptr;    // set while tracking
  dma::attachments attachments_;  // last: its containers are in use by what is above
};

result<block_index> address_space::state::add_block(ram_block block) {
  if (block.size == 0 || !page_aligned(block.size) || !page_aligned(reinterpret_cast<std::uintptr_t>(block.host)))
    return make_error(operation::add_region, errc::region_misaligned, {},
                      "RAM block " + block.name + ": address and size are whole pages of 4096 bytes");
  blocks_.push_back(std::move(block));
  return static_cast<block_index>(blocks_.size() - 1);
}

std::vector<region> address_space::state::regions() const {
  std::vector<region> list;
  list.reserve(regions_.size());
  for (const auto& [iova, shown] : regions_) list.push_back(shown);
  return list;
}

result<void> address_space::state::check_shape(const region& added) {
  const auto refuse = [&](const char* why) {
    return make_error(operation::add_region, errc::region_misaligned, added.at, why);
  };
  if (added.at.size == 0 || !page_aligned(added.at.iova) || !page_aligned(added.at.size) || !page_aligned(added.offset))
    return refuse("IOVA, size and offset are whole pages of 4096 bytes, and size is not 0");
  if (wraps(added.at)) return refuse("the range wraps");
  return {};
}

result<void> address_space::state::check_place(const region& added) const {
  const auto refuse = [&](errc code, std::string why) {
    return make_error(operation::add_region, code, added.at, std::move(why));
  };
  if (added.block >= blocks_.size()) return refuse(errc::region_unknown, "no RAM block " + std::to_string(added.block));
  const auto& block = blocks_[added.block];
  if (added.offset > block.size || added.at.size > block.size - added.offset)
    return refuse(errc::region_unknown, "the region leaves RAM block " + block.name);
  auto after = regions_.upper_bound(added.at.iova + (added.at.size - 1));
  if (after != regions_.begin() && dma::overlap(std::prev(after)->second.at, added.at))
    return refuse(errc::region_overlaps, "remove the region at this range first");
  return {};
}

mapping address_space::state::mapping_of(const region& shown) const {
  return {shown.at, blocks_[shown.block].host + shown.offset, shown.writable};
}

void address_space::state::mark_all(const region& shown) {
  sink_->mark_all(shown.block, shown.offset / page_bytes, shown.at.size / page_bytes);
}

template <class Ask>
task<std::vector<result<void>>> address_space::state::ask_all(Ask ask) {
  const members asked = members_;
  std::vector<result<void>> outcomes(asked.size());
  ring::latch left(asked.size());
  for (std::size_t i = 0; i < asked.size(); ++i)
    ring::start([](task<result<void>> one, result<void>& outcome, ring::latch& done) -> task<> {
      outcome = co_await std::move(one);
      done.count_down();
    }(ask(asked[i], i), outcomes[i], left));
  co_await left;
  co_return outcomes;
}

/// The same of every region there is now, all asked before any is awaited.
template <class Ask>
task<void> address_space::state::ask_of_regions(Ask ask) {
  const auto list = regions();
  ring::latch left(list.size());
  for (const auto& shown : list)
    ring::start([](auto one, ring::latch& done) -> task<> {
      (void)co_await std::move(one);
      done.count_down();
    }(ask(shown), left));
  co_await left;
}

task<result<void>> address_space::state::map_in_all(region added) {
  const auto outcomes = co_await ask_all([&](member in, std::size_t) { return map(in, added); });
  auto failed = first_failure(outcomes);
  if (!failed) co_return result<void>{};
  const auto undoing =
      co_await ask_all([&](member in, std::size_t i) { return outcomes[i] ? unmap(in, added) : nothing(); });
  failed->undone = taken_back("the region is mapped in no container", undoing);
  co_return *failed;
}

task<result<void>> address_space::state::unmap_in_all(region gone) {
  const auto outcomes = co_await ask_all([&](member in, std::size_t) { return unmap(in, gone); });
  auto failed = first_failure(outcomes);
  if (!failed) co_return result<void>{};
  const auto undoing = co_await ask_all([&](member in, std::size_t i) { return outcomes[i] ? map(in, gone) : nothing(); });
  failed->undone = taken_back("the region stays", undoing);
  co_return *failed;
}

task<result<void>> address_space::state::add(region added) {
  if (auto fits = check_shape(added); !fits) co_return fits;
  const auto held = co_await ranges_.lock(added.at);
  if (auto fits = check_place(added); !fits) co_return fits;
  if (auto mapped = co_await map_in_all(added); !mapped) co_return mapped;
  regions_.emplace(added.at.iova, added);
  co_return result<void>{};
}

task<result<void>> address_space::state::map(member in, region added) {
  co_return co_await in.where->async_map(mapping_of(added), resume_on{executor_});
}

task<result<void>> address_space::state::unmap(member in, region gone) {
  if (!in.tracking) {
    auto unmapped = co_await in.where->async_unmap(gone.at, resume_on{executor_});
    if (sink_) mark_all(gone);  // only now: until the unmap a device may have written anything, and nobody can say what
    if (!unmapped) co_return unmapped.error();
    co_return result<void>{};
  }
  std::vector<std::uint64_t> dirty(core::words_for(gone.at.size / page_bytes));
  auto unmapped = co_await in.where->async_unmap(gone.at, dirty, resume_on{executor_});
  if (!unmapped && cannot_tell(unmapped.error())) {
    in.tracking = false;
    co_return co_await unmap(in, gone);
  }
  if (!unmapped) {
    if (sink_) mark_all(gone);  // what the kernel had recorded may be gone with the failed call
    co_return unmapped.error();
  }
  if (sink_) sink_->merge(gone.block, gone.offset / page_bytes, gone.at.size / page_bytes, dirty);
  co_return result<void>{};
}

task<result<void>> address_space::state::remove(iova_range range) {
  const auto unknown = make_error(operation::remove_region, errc::region_unknown, range,
                                  "a region is removed by exactly the range it was added at");
  if (wraps(range)) co_return unknown;
  const auto held = co_await ranges_.lock(range);
  const auto found = regions_.find(range.iova);
  if (found == regions_.end() || found->second.at != range) co_return unknown;
  if (auto unmapped = co_await unmap_in_all(found->second); !unmapped) co_return unmapped;
  regions_.erase(range.iova);
  co_return result<void>{};
}

task<result<void>> address_space::state::replay(container& added) {
  for (const auto& shown : regions())
    if (auto mapped = co_await added.async_map(mapping_of(shown), resume_on{executor_}); !mapped) co_return mapped;
  co_return result<void>{};
}

task<result<void>> address_space::state::join(container& coming) {
  const auto held = co_await ranges_.lock(everything);
  member joining{&coming, false};
  if (sink_) joining.tracking = (co_await coming.async_start_dirty_tracking(resume_on{executor_})).has_value();
  if (auto replayed = co_await replay(coming); !replayed) co_return replayed;
  members_.push_back(joining);
  co_return result<void>{};
}

// The mappings go with the group, under the lock: until then no region may be removed that this container still maps.
task<result<void>> address_space::state::leave(container& going, unsigned last_group) {
  const auto held = co_await ranges_.lock(everything);
  const auto at = std::find_if(members_.begin(), members_.end(), [&](const member& in) { return in.where == &going; });
  if (at != members_.end()) {
    const member leaving = *at;
    members_.erase(at);
    if (sink_) co_await ask_of_regions([&](const region& shown) { return query(leaving, shown); });
  }
  co_return co_await going.async_disconnect(last_group, resume_on{executor_});
}

task<result<void>> address_space::state::start_tracking(dirty_sink& sink) {
  const auto held = co_await ranges_.lock(everything);
  std::size_t failures = 0;
  error failure;
  for (auto& in : members_) {
    const auto started = co_await in.where->async_start_dirty_tracking(resume_on{executor_});
    in.tracking = started.has_value();
    if (started || started.error().code == make_error_code(errc::dirty_not_supported)) continue;
    ++failures;
    failure = started.error();
  }
  if (failures != 0) {
    for (auto& in : members_)
      if (std::exchange(in.tracking, false)) (void)co_await in.where->async_stop_dirty_tracking(resume_on{executor_});
    failure.undone = "tracking is off in every container";
    co_return failure;
  }
  sink_ = &sink;
  co_return result<void>{};
}

task<result<void>> address_space::state::query(member in, region shown) {
  if (!in.tracking) {
    mark_all(shown);
    co_return result<void>{};
  }
  std::vector<std::uint64_t> dirty(core::words_for(shown.at.size / page_bytes));
  auto queried = co_await in.where->async_query_dirty(shown.at, dirty, resume_on{executor_});
  if (!sink_) co_return queried;
  if (queried) {
    sink_->merge(shown.block, shown.offset / page_bytes, shown.at.size / page_bytes, dirty);
  } else {
    mark_all(shown);
  }
  co_return queried;
}

task<result<void>> address_space::state::sync_region(iova_range range) {
  const auto held = co_await ranges_.lock(range);
  const auto found = regions_.find(range.iova);
  if (found == regions_.end() || found->second.at != range || !sink_)
    co_return result<void>{};  // it went meanwhile, and its unmap told what was dirty
  const region shown = found->second;
  co_await ask_all([&](member in, std::size_t) { return query(in, shown); });
  co_return result<void>{};  // a query that failed has marked its region
}

task<result<void>> address_space::state::sync() {
  // Events given before take effect first: devices may have written already what is still being mapped.
  { const auto events_before = co_await ranges_.lock(everything); }
  if (!sink_) co_return result<void>{};
  co_await ask_of_regions([&](const region& shown) { return sync_region(shown.at); });
  co_return result<void>{};
}

task<result<void>> address_space::state::stop_tracking() {
  const auto held = co_await ranges_.lock(everything);
  sink_ = nullptr;
  result<void> outcome;
  for (auto& in : members_) {
    if (!std::exchange(in.tracking, false)) continue;
    if (auto stopped = co_await in.where->async_stop_dirty_tracking(resume_on{executor_}); !stopped) outcome = stopped;
  }
  co_return outcome;
}

address_space::address_space(any_io_executor executor, host& host)
    : executor_(std::move(executor)), state_(std::make_unique<state>(executor_, host)) {}
address_space::~address_space() = default;

result<block_index> address_space::add_block(ram_block block) { return state_->add_block(std::move(block)); }
const std::vector<ram_block>& address_space::blocks() const noexcept { return state_->blocks(); }
std::vector<region> address_space::regions() const { return state_->regions(); }

std::vector<device> address_space::devices() const { return state_->attachments().devices(); }
std::vector<container_info> address_space::containers() const { return state_->attachments().containers(); }

void address_space::start_attach(completion<device> done, std::string which, attach_options options) {
  ring::spawn(executor_, state_->attachments().attach(std::move(which), options), std::move(done));
}
void address_space::start_detach(completion<void> done, device which) {
  ring::spawn(executor_, state_->attachments().detach(std::move(which)), std::move(done));
}
void address_space::start_add(completion<void> done, region added) {
  ring::spawn(executor_, state_->add(added), std::move(done));
}
void address_space::start_remove(completion<void> done, iova_range range) {
  ring::spawn(executor_, state_->remove(range), std::move(done));
}
void address_space::start_tracking(completion<void> done, dirty_sink* sink) {
  ring::spawn(executor_, state_->start_tracking(*sink), std::move(done));
}
void address_space::start_sync(completion<void> done) { ring::spawn(executor_, state_->sync(), std::move(done)); }
void address_space::start_stop_tracking(completion<void> done) {
  ring::spawn(executor_, state_->stop_tracking(), std::move(done));
}

}  // namespace tidemark
