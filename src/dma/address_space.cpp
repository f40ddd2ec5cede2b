// SPDX-License-Identifier: Apache-2.0

#include <tidemark/address_space.hpp>

#include <cerrno>
#include <map>
#include <string>
#include <utility>

#include "dma/attachments.hpp"
#include "dma/block_pages.hpp"
#include "dma/in_slices.hpp"
#include "dma/placed_region.hpp"
#include "dma/placer.hpp"
#include "dma/range_lock.hpp"
#include "dma/region_rules.hpp"
#include "ring/await.hpp"

namespace tidemark {

using ring::resume_on;
using ring::task;

namespace {

constexpr iova_range everything{0, ~std::uint64_t{0}};

bool page_aligned(std::uint64_t value) noexcept { return value % page_bytes == 0; }

error no_granules(operation what, iova_range range) {
  return make_error(what, errc::region_unknown, range, "the range does not lie in one region that has a granule");
}

}  // namespace

/// Events in their order, by range, and the regions they leave.
class address_space::state final : public dma::container_user {
 public:
  state(const any_io_executor& executor, host& host)
      : executor_(executor), host_(host), placer_(executor, host), attachments_(executor, host, *this) {}

  result<block_index> add_block(ram_block block);
  const std::vector<ram_block>& blocks() const noexcept { return blocks_; }
  std::vector<region> regions() const;
  std::vector<region_state> region_states() const;

  dma::attachments& attachments() noexcept { return attachments_; }
  task<result<void>> join(container& coming, const container_info& offered) override;
  task<result<container_info>> add_group(container& to, unsigned group) override;
  task<result<container_info>> remove_group(container& from, unsigned group, result<void>& left) override;
  task<result<void>> leave(container& going, unsigned last_group) override;
  task<void> add_device(const container& in, const device& coming, bool may_log) override;
  task<result<void>> close_device(container& in, const device& going) override;

  task<result<void>> add(region added);
  task<result<void>> remove(iova_range range);
  task<result<void>> change_granules(operation what, iova_range range);
  task<result<void>> move_blocks(std::vector<moved_block> moved, std::function<result<void>()> move);
  task<result<void>> start_tracking(dirty_sink& sink);
  task<result<void>> sync();
  task<result<void>> stop_tracking();

 private:
  result<void> check_place(const iova_range& range) const;
  std::byte* memory_of(const region& added) const;
  result<ram_discard::requirement> require_discarding(const region& added);
  result<dma::placed_region*> granules_at(operation what, iova_range range);
  result<void> check_moved(const std::vector<moved_block>& moved) const;
  template <class Change>
  void change(const dma::placed_region& of, iova_range range, Change make);
  task<void> sync_region(iova_range range);

  any_io_executor executor_;
  host& host_;
  std::vector<ram_block> blocks_;
  dma::placed_regions regions_;
  std::size_t granular_ = 0;  // regions with a granule
  dma::placer placer_;
  dma::range_lock ranges_;
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
  for (const auto& [iova, which] : regions_) list.push_back(which.asked);
  return list;
}

std::vector<region_state> address_space::state::region_states() const {
  std::vector<region_state> list;
  list.reserve(regions_.size());
  for (const auto& [iova, which] : regions_) list.push_back(which.state());
  return list;
}

// --- regions that come and go ---

result<void> address_space::state::check_place(const iova_range& range) const {
  const auto after = regions_.upper_bound(range.iova + (range.size - 1));
  if (after == regions_.begin() || !dma::overlap(std::prev(after)->second.asked.at, range)) return {};
  return make_error(operation::add_region, errc::region_overlaps, range, "remove the region at this range first");
}

std::byte* address_space::state::memory_of(const region& added) const {
  return added.kind == region_kind::ram ? blocks_[added.block].host + added.offset : added.host;
}

/// What is discarded must not be pinned by a container that maps it as a whole.
result<ram_discard::requirement> address_space::state::require_discarding(const region& added) {
  if (added.granule == 0) return ram_discard::requirement{};
  auto required =
      host_.discards().try_require(ram_discard::required::coordinated,
                                   {"a region of RAM block " + blocks_[added.block].name,
                                    "its memory comes and goes by granules of " + std::to_string(added.granule) + " bytes"});
  if (required) return required;
  auto refused = required.error();
  refused.range = added.at;
  return refused;
}

/// Makes a change to what a range of a region shows, and tells the sink which pages it discarded or brought back.
template <class Change>
void address_space::state::change(const dma::placed_region& of, iova_range range, Change make) {
  if (placer_.sink() == nullptr || granular_ == 0 || !of.is_ram()) return make();
  const auto block = of.asked.block;
  const auto pages = dma::pages_of(of, range);
  const auto before = dma::discarded_pages(regions_, block, pages);
  make();
  const auto after = dma::discarded_pages(regions_, block, pages);
  for (const auto& run : dma::difference(after, before)) placer_.sink()->discarded({block, run.first, run.length});
  for (const auto& run : dma::difference(before, after)) placer_.sink()->populated({block, run.first, run.length});
}

task<result<void>> address_space::state::add(region added) {
  if (auto fits = dma::check_shape(added); !fits) co_return fits;
  const auto held = co_await ranges_.lock(added.at);
  if (auto fits = dma::check_memory(added, blocks_); !fits) co_return fits;
  if (auto fits = check_place(added.at); !fits) co_return fits;
  auto discards = require_discarding(added);
  if (!discards) co_return discards.error();
  dma::placed_region coming(added, memory_of(added));
  coming.discards = std::move(*discards);
  if (auto suits = placer_.place(coming); !suits) co_return suits;
  co_await placer_.cover(coming, regions_);
  if (!coming.is_granular()) {
    auto mapped = co_await placer_.hold(coming, coming.all(), "the region is mapped in no container");
    if (!mapped) {
      placer_.settle(coming);
      co_return mapped;
    }
  }
  if (coming.is_granular()) ++granular_;
  change(coming, added.at, [&] { regions_.emplace(added.at.iova, std::move(coming)); });
  placer_.settle(regions_.at(added.at.iova));
  co_return result<void>{};
}

task<result<void>> address_space::state::remove(iova_range range) {
  const auto unknown = make_error(operation::remove_region, errc::region_unknown, range,
                                  "a region is removed by exactly the range it was added at");
  if (dma::wraps(range)) co_return unknown;
  const auto held = co_await ranges_.lock(range);
  const auto found = regions_.find(range.iova);
  if (found == regions_.end() || found->second.asked.at != range) co_return unknown;
  auto& going = found->second;
  if (auto unmapped = co_await placer_.release(going, going.all(), "the region stays"); !unmapped) co_return unmapped;
  const bool was_granular = going.is_granular();
  change(going, range, [&] { regions_.erase(found); });
  if (was_granular) --granular_;
  co_return result<void>{};
}

// --- granules that come and go ---

result<dma::placed_region*> address_space::state::granules_at(operation what, iova_range range) {
  auto found = regions_.upper_bound(range.iova);
  const bool there = found != regions_.begin() && dma::contains((--found)->second.asked.at, range);
  if (!there || !found->second.is_granular()) return no_granules(what, range);
  const auto& asked = found->second.asked;
  if (range.size == 0 || range.iova % asked.granule != 0 || range.size % asked.granule != 0)
    return make_error(what, errc::region_misaligned, range,
                      "the region comes and goes by whole granules of " + std::to_string(asked.granule) + " bytes");
  return &found->second;
}

task<result<void>> address_space::state::change_granules(operation what, iova_range range) {
  if (dma::wraps(range)) co_return no_granules(what, range);
  const auto held = co_await ranges_.lock(range);
  const auto found = granules_at(what, range);
  if (!found) co_return found.error();
  auto& which = **found;
  const auto pieces = which.pieces_in(range);
  const bool comes = what == operation::populate_region;
  auto changing = comes ? placer_.hold(which, pieces, "the granules are as before")
                        : placer_.release(which, pieces, "the granules are as before");
  auto changed = co_await std::move(changing);
  if (!changed) co_return changed;
  change(which, range, [&] {
    comes ? which.populated.set(pieces.first, pieces.length) : which.populated.clear(pieces.first, pieces.length);
  });
  co_return changed;
}

// --- memory that moves ---

/// Of blocks, and of what is mapped of them: a container must not be found unable when the memory has moved already.
result<void> address_space::state::check_moved(const std::vector<moved_block>& moved) const {
  std::map<block_index, std::byte*> to;
  for (const auto& [block, host] : moved) {
    if (block >= blocks_.size())
      return make_error(operation::move_blocks, errc::region_unknown, {}, "RAM block " + std::to_string(block));
    const auto& name = blocks_[block].name;
    if (host == nullptr || !page_aligned(reinterpret_cast<std::uintptr_t>(host)))
      return make_error(operation::move_blocks, errc::region_misaligned, {},
                        "RAM block " + name + ": the address is a whole page of 4096 bytes");
    if (!to.emplace(block, host).second)
      return kernel_error(operation::move_blocks, EINVAL, {}, "RAM block " + name + " is given twice");
  }
  for (const auto& [iova, which] : regions_) {
    const auto found = which.is_ram() && which.skipped.empty() ? to.find(which.asked.block) : to.end();
    if (found == to.end()) continue;
    if (auto suits = placer_.check_moved(which, found->second + which.asked.offset); !suits) {
      auto why = suits.error();
      why.detail = "RAM block " + blocks_[found->first].name + ": " + why.detail;
      return why;
    }
  }
  return {};
}

task<result<void>> address_space::state::move_blocks(std::vector<moved_block> moved, std::function<result<void>()> move) {
  const auto held = co_await ranges_.lock(everything);
  if (auto fits = check_moved(moved); !fits) co_return fits;
  if (auto released = co_await placer_.release_addresses(regions_); !released) co_return released;
  if (auto there = move ? move() : result<void>{}; !there) {
    auto why = there.error();
    const auto renewed = co_await placer_.renew_addresses(regions_);
    why.undone = renewed ? "no block has moved" : "not undone: " + renewed.error().message();
    co_return why;
  }
  for (const auto& [block, host] : moved) blocks_[block].host = host;
  for (auto& [iova, which] : regions_)
    if (which.is_ram()) which.memory = memory_of(which.asked);
  co_return co_await placer_.renew_addresses(regions_);
}

// --- containers that come and go ---

task<result<void>> address_space::state::join(container& coming, const container_info& offered) {
  const auto page_size = offered.page_size();
  const auto held = co_await ranges_.lock(everything);
  co_return co_await placer_.join(coming, page_size, regions_);
}

// Under the lock: a group may change the page size, by which maps are trimmed and bitmaps read.
task<result<container_info>> address_space::state::add_group(container& to, unsigned group) {
  const auto held = co_await ranges_.lock(everything);
  auto info = co_await to.async_connect(group, resume_on{executor_});
  if (!info) co_return info;
  auto suits = placer_.resize(to, info->page_size(), regions_);
  if (suits) co_return info;
  (void)co_await to.async_disconnect(group, resume_on{executor_});
  co_return suits.error();
}

task<result<container_info>> address_space::state::remove_group(container& from, unsigned group, result<void>& left) {
  const auto held = co_await ranges_.lock(everything);
  left = co_await from.async_disconnect(group, resume_on{executor_});
  auto info = co_await from.async_info(resume_on{executor_});
  if (info) (void)placer_.resize(from, info->page_size(), regions_);  // with a group less it can only do more
  co_return info;
}

// The mappings go with the group, under the lock: until then no region may be removed that this container still maps.
task<result<void>> address_space::state::leave(container& going, unsigned last_group) {
  const auto held = co_await ranges_.lock(everything);
  co_await placer_.leave(going, regions_);
  co_return co_await going.async_disconnect(last_group, resume_on{executor_});
}

task<void> address_space::state::add_device(const container& in, const device& coming, bool may_log) {
  const auto held = co_await ranges_.lock(everything);
  co_await placer_.add_device(in, coming, may_log, regions_);
}

task<result<void>> address_space::state::close_device(container& in, const device& going) {
  const auto held = co_await ranges_.lock(everything);
  co_return co_await placer_.close_device(in, going, regions_);
}

// --- dirty pages ---

task<result<void>> address_space::state::start_tracking(dirty_sink& sink) {
  const auto held = co_await ranges_.lock(everything);
  if (placer_.sink()) co_return kernel_error(operation::start_dirty_tracking, EBUSY, {}, "somebody tracks already");
  if (auto started = co_await placer_.start_tracking(sink, regions_); !started) co_return started;
  for (const auto& [iova, which] : regions_) {
    if (!which.is_granular()) continue;
    const auto pages = dma::pages_of(which, which.asked.at);
    for (const auto& run : dma::discarded_pages(regions_, which.asked.block, pages))
      sink.discarded({which.asked.block, run.first, run.length});
  }
  co_return result<void>{};
}

task<void> address_space::state::sync_region(iova_range range) {
  const auto held = co_await ranges_.lock(range);
  const auto found = regions_.find(range.iova);
  const bool there = found != regions_.end() && found->second.asked.at == range;
  if (there && placer_.sink() != nullptr) co_await placer_.query(found->second);
  // Otherwise it went meanwhile, and its unmap told what was dirty.
}

task<result<void>> address_space::state::sync() {
  // Events given before take effect first: devices may have written already what is still being mapped.
  { const auto events_before = co_await ranges_.lock(everything); }
  if (placer_.sink() == nullptr) co_return result<void>{};
  const auto list = regions();
  co_await dma::in_slices(list.size(), dma::regions_at_once, [&](std::size_t i) { return sync_region(list[i].at); });
  if (placer_.has_failed()) {
    const auto held = co_await ranges_.lock(everything);
    co_await placer_.recover(regions_);
  }
  co_return result<void>{};  // a query that failed has marked what it asked about
}

task<result<void>> address_space::state::stop_tracking() {
  const auto held = co_await ranges_.lock(everything);
  co_return co_await placer_.stop_tracking();
}

std::string_view name_of(dirty_origin origin) noexcept {
  switch (origin) {
    case dirty_origin::device_log:
      return "device log";
    case dirty_origin::container:
      return "container";
    case dirty_origin::untracked:
      return "untracked";
    case dirty_origin::lost:
      return "lost";
  }
  return "unknown";
}

address_space::address_space(any_io_executor executor, host& host)
    : executor_(std::move(executor)), host_(host), state_(std::make_unique<state>(executor_, host)) {}
address_space::~address_space() = default;

result<block_index> address_space::add_block(ram_block block) { return state_->add_block(std::move(block)); }
const std::vector<ram_block>& address_space::blocks() const noexcept { return state_->blocks(); }
std::vector<region> address_space::regions() const { return state_->regions(); }
std::vector<region_state> address_space::region_states() const { return state_->region_states(); }

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
void address_space::start_populate(completion<void> done, iova_range range) {
  ring::spawn(executor_, state_->change_granules(operation::populate_region, range), std::move(done));
}
void address_space::start_discard(completion<void> done, iova_range range) {
  ring::spawn(executor_, state_->change_granules(operation::discard_region, range), std::move(done));
}
void address_space::start_move_blocks(completion<void> done, std::vector<moved_block> blocks,
                                      std::function<result<void>()> move) {
  ring::spawn(executor_, state_->move_blocks(std::move(blocks), std::move(move)), std::move(done));
}
void address_space::start_tracking(completion<void> done, dirty_sink* sink) {
  ring::spawn(executor_, state_->start_tracking(*sink), std::move(done));
}
void address_space::start_sync(completion<void> done) { ring::spawn(executor_, state_->sync(), std::move(done)); }
void address_space::start_stop_tracking(completion<void> done) {
  ring::spawn(executor_, state_->stop_tracking(), std::move(done));
}

}  // namespace tidemark
