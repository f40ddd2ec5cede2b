// SPDX-License-Identifier: Apache-2.0

#include "dma/placer.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/bitmap.hpp"
#include "dma/block_pages.hpp"
#include "dma/in_slices.hpp"
#include "dma/region_rules.hpp"
#include "ring/await.hpp"

namespace tidemark::dma {

using ring::resume_on;
using ring::task;

namespace {

std::optional<error> first_failure(const std::vector<result<void>>& outcomes) {
  for (const auto& outcome : outcomes)
    if (!outcome) return outcome.error();
  return std::nullopt;
}

/// What error::undone says after everything done was asked to be taken back.
std::string taken_back(std::string as_before, const std::vector<result<void>>& outcomes) {
  const auto failed = first_failure(outcomes);
  return failed ? "not undone everywhere: " + failed->message() : std::move(as_before);
}

/// Whether it is the kernel's answer, and not that it was never asked.
bool is_of_kernel(const error& what) { return what.code.category() == boost::system::system_category(); }

std::vector<tidemark::change> maps_of(const placed_region& which, const placement& where, const piece_runs& pieces) {
  std::vector<tidemark::change> list;
  for (const auto& run : pieces)
    for (std::uint64_t i = 0; i < run.length; ++i)
      list.emplace_back(which.mapping_of(which.range_of(where, {run.first + i, 1})));
  return list;
}

piece_runs missing_in(const placement& where, piece_run pieces) {
  return where.mapped.size != 0 ? clear_in(where.held, pieces) : piece_runs{};
}

/// From the first piece to the last: one unmap reaches them all, and gaps cost it nothing.
piece_runs hull_of(const piece_runs& pieces) {
  if (pieces.empty()) return {};
  return {{pieces.front().first, pieces.back().first + pieces.back().length - pieces.front().first}};
}

/// Pieces that were held before and are not now.
piece_runs lost(const piece_runs& before, const core::bitmap& now) {
  piece_runs list;
  for (const auto& run : before)
    for (const auto& gone : clear_in(now, run)) list.push_back(gone);
  return list;
}

/// What a container maps of a region.
shown_parts parts_of(const placed_region& which, const placement& where) {
  shown_parts parts;
  if (!which.is_tracked()) return parts;
  for (const auto& run : set_in(where.held, which.all())) parts.push_back(part_of(which, which.range_of(where, run)));
  return parts;
}

/// What the container whose placements have this index can map of all regions: of one with a granule all of it, whatever is
/// populated now.
shown_parts parts_of(const placed_regions& regions, std::size_t index) {
  shown_parts parts;
  for (const auto& [iova, which] : regions)
    if (which.is_tracked() && index < which.in.size()) parts.push_back(part_of(which, which.in[index].mapped));
  return parts;
}

tracker::held_call held_in(const placed_regions& regions, std::size_t index) {
  return [&regions, index] { return parts_of(regions, index); };
}

task<result<void>> nothing() { co_return result<void>{}; }

}  // namespace

result<void> placer::place(placed_region& which) const {
  for (const auto& in : members_) {
    if (auto suits = check_granule(which.asked, which.memory, in.page_size); !suits) return suits;
    which.place(in.page_size);
  }
  return {};
}

/// One outcome for each member.
template <class Ask>
task<std::vector<result<void>>> placer::ask_all(Ask ask) {
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

task<result<void>> placer::hold(placed_region& which, piece_run pieces, std::string as_before) {
  pieces_by_member missing;
  for (const auto& where : which.in) missing.push_back(missing_in(where, pieces));
  const auto outcomes = co_await ask_all([&](member in, std::size_t i) { return map(in, which, which.in[i], missing[i]); });
  auto failed = first_failure(outcomes);
  if (!failed) co_return result<void>{};
  // One that failed has taken back what it did, or could not: only asking it to unmap tells which.
  const auto undoing = co_await ask_all([&](member in, std::size_t i) {
    return outcomes[i] || is_of_kernel(outcomes[i].error()) ? unmap(in, which, which.in[i], missing[i]) : nothing();
  });
  failed->undone = taken_back(std::move(as_before), undoing);
  co_return *failed;
}

task<result<void>> placer::release(placed_region& which, piece_run pieces, std::string as_before) {
  pieces_by_member before;
  for (const auto& where : which.in) before.push_back(set_in(where.held, pieces));
  const auto outcomes =
      co_await ask_all([&](member in, std::size_t i) { return unmap(in, which, which.in[i], hull_of(before[i])); });
  auto failed = first_failure(outcomes);
  if (!failed) co_return result<void>{};
  const auto undoing = co_await ask_all(
      [&](member in, std::size_t i) { return map(in, which, which.in[i], lost(before[i], which.in[i].held)); });
  failed->undone = taken_back(std::move(as_before), undoing);
  co_return *failed;
}

task<result<void>> placer::map(member in, placed_region& which, placement& where, piece_runs pieces) {
  if (pieces.empty()) co_return result<void>{};
  auto changes = maps_of(which, where, pieces);
  result<void> mapped;
  if (changes.size() == 1) {
    mapped = co_await in.where->async_map(std::get<mapping>(changes.front()), resume_on{executor_});
  } else {
    mapped = co_await in.where->async_apply(std::move(changes), resume_on{executor_});
  }
  if (!mapped && !which.is_ram()) {
    warn_of(where, mapped.error());
    co_return result<void>{};
  }
  for (const auto& run : pieces)
    if (mapped) where.held.set(run.first, run.length);
  co_return mapped;
}

/// Device memory is mapped where that works.
void placer::warn_of(placement& where, error why) const {
  why.detail += std::string(why.detail.empty() ? "" : ": ") +
                "this device memory is not mapped, and DMA of other devices to it does not work";
  where.mapped = {};
  where.reason = why.message();
  if (host_.options().warn) host_.options().warn(why);
}

task<result<void>> placer::unmap(member in, const placed_region& which, placement& where, piece_runs pieces) {
  result<void> outcome;
  for (const auto& run : pieces)
    if (auto unmapped = co_await unmap_run(in, which, where, run); !unmapped) outcome = unmapped;
  co_return outcome;
}

task<result<void>> placer::unmap_run(member in, const placed_region& which, placement& where, piece_run run) {
  auto unmapped = co_await unmap_range(in, which, which.range_of(where, run));
  if (unmapped) {
    where.held.clear(run.first, run.length);
    co_return unmapped;
  }
  if (run.length != 1) co_return co_await unmap_each(in, which, where, run);
  if (is_of_kernel(unmapped.error())) where.held.set(run.first, 1);  // it was asked: so there is something
  co_return unmapped;
}

/// After a failure each by itself: the kernel does not say what it has done (R18).
task<result<void>> placer::unmap_each(member in, const placed_region& which, placement& where, piece_run run) {
  result<void> outcome;
  for (std::uint64_t i = 0; i < run.length; ++i)
    if (auto unmapped = co_await unmap_run(in, which, where, {run.first + i, 1}); !unmapped) outcome = unmapped;
  co_return outcome;
}

task<result<void>> placer::unmap_range(member in, const placed_region& which, iova_range range) {
  if (which.is_tracked()) co_return co_await in.dirty->unmap(part_of(which, range), in.page_size);
  auto unmapped = co_await in.where->async_unmap(range, resume_on{executor_});
  if (!unmapped) co_return unmapped.error();
  co_return result<void>{};
}

task<void> placer::query(const placed_region& which) {
  if (!which.is_tracked()) co_return;
  co_await ask_all([&](member in, std::size_t i) -> task<result<void>> {
    co_await query_placement(in, which, which.in[i]);
    co_return result<void>{};
  });
}

task<void> placer::query_placement(member in, const placed_region& which, const placement& where) {
  co_await in.dirty->read(parts_of(which, where), where.mapped);
}

task<void> placer::cover(const placed_region& coming, const placed_regions& others) {
  if (!sink_ || !coming.is_tracked()) co_return;
  co_await ask_all([&](member in, std::size_t i) -> task<result<void>> {
    const auto mapped = coming.in[i].mapped;
    if (mapped.size != 0) co_await in.dirty->cover(part_of(coming, mapped), held_in(others, i));
    co_return result<void>{};
  });
}

void placer::settle(const placed_region& came) {
  for (std::size_t i = 0; i < members_.size() && i < came.in.size(); ++i) members_[i].dirty->settle(came.in[i].mapped);
}

task<void> placer::add_device(const container& in, const device& coming, bool may_log, const placed_regions& regions) {
  const auto at = find(in);
  if (at != members_.end()) co_await at->dirty->add_device(coming, may_log, held_in(regions, index_of(*at)));
}

task<result<void>> placer::close_device(container& in, const device& going, const placed_regions& regions) {
  const auto at = find(in);
  if (at == members_.end()) co_return co_await in.async_close_device(going, resume_on{executor_});
  co_return co_await at->dirty->close_device(going, held_in(regions, index_of(*at)));
}

placer::members::iterator placer::find(const container& which) {
  return std::find_if(members_.begin(), members_.end(), [&](const member& in) { return in.where == &which; });
}

placer::member placer::make_member(container& of, std::uint64_t page_size) const {
  return {&of, page_size, std::make_shared<tracker>(executor_, of, host_.options().warn)};
}

std::size_t placer::index_of(const member& in) const { return static_cast<std::size_t>(&in - members_.data()); }

task<result<void>> placer::join(container& coming, std::uint64_t page_size, placed_regions& regions) {
  auto joining = make_member(coming, page_size);
  if (sink_) co_await joining.dirty->join(*sink_);
  result<void> outcome;
  for (auto& [iova, which] : regions) {
    if (outcome) outcome = check_granule(which.asked, which.memory, page_size);
    which.place(page_size);
    auto& where = which.in.back();
    if (outcome && where.mapped.size != 0)
      outcome = co_await map(joining, which, where, set_in(which.populated, which.all()));
  }
  if (outcome) {
    members_.push_back(joining);
  } else {
    for (auto& [iova, which] : regions) which.in.pop_back();
  }
  co_return outcome;
}

task<void> placer::leave(const container& going, placed_regions& regions) {
  const auto at = find(going);
  if (at == members_.end()) co_return;
  const auto index = at - members_.begin();
  std::vector<const placed_region*> shown;
  for (const auto& [iova, which] : regions)
    if (sink_ && which.is_ram()) shown.push_back(&which);
  co_await in_slices(shown.size(), regions_at_once, [&](std::size_t i) {
    return query_placement(*at, *shown[i], shown[i]->in[static_cast<std::size_t>(index)]);
  });
  members_.erase(at);
  for (auto& [iova, which] : regions) which.in.erase(which.in.begin() + index);
}

result<void> placer::resize(const container& which, std::uint64_t page_size, const placed_regions& regions) {
  for (const auto& [iova, one] : regions)
    if (auto suits = check_granule(one.asked, one.memory, page_size); !suits) return suits;
  if (const auto at = find(which); at != members_.end()) at->page_size = page_size;
  return {};
}

// --- memory that moves ---

result<void> placer::check_moved(const placed_region& which, const std::byte* to) const {
  for (std::size_t i = 0; i < members_.size(); ++i) {
    const auto& where = which.in[i];
    const auto now = members_[i].page_size;
    const bool lies_alike = fit(which.asked.at, to, where.page_size).mapped == where.mapped &&
                            (where.mapped.size == 0 ||
                             fit(where.mapped, to + (where.mapped.iova - which.asked.at.iova), now).mapped == where.mapped);
    if (!lies_alike)
      return make_error(
          operation::move_blocks, errc::region_misaligned, which.asked.at,
          "within IOMMU pages of " + std::to_string(std::max(where.page_size, now)) + " bytes it has to lie as before");
  }
  return {};
}

task<result<void>> placer::release_addresses(const placed_regions& regions) {
  const auto outcomes = co_await ask_all([&](member in, std::size_t) -> task<result<void>> {
    co_return co_await in.where->async_release_addresses(resume_on{executor_});
  });
  auto failed = first_failure(outcomes);
  if (!failed) co_return result<void>{};
  const auto undoing = co_await ask_all([&](member in, std::size_t i) {
    return outcomes[i] || is_of_kernel(outcomes[i].error()) ? renew(in, regions, i) : nothing();
  });
  failed->undone = taken_back("every mapping has its address", undoing);
  co_return *failed;
}

task<result<void>> placer::renew_addresses(const placed_regions& regions) {
  const auto outcomes = co_await ask_all([&](member in, std::size_t i) { return renew(in, regions, i); });
  const auto failures = std::count_if(outcomes.begin(), outcomes.end(), [](const auto& one) { return !one; });
  auto failed = first_failure(outcomes);
  if (!failed) co_return result<void>{};
  failed->undone = "in " + std::to_string(failures) + " of " + std::to_string(outcomes.size()) +
                   " containers; in the first of them: " + failed->undone;
  co_return *failed;
}

task<result<void>> placer::renew(member in, const placed_regions& regions, std::size_t index) {
  std::vector<moved_memory> all;
  for (const auto& [iova, which] : regions) {
    if (!which.skipped.empty()) continue;
    const auto& where = which.in[index];
    for (const auto& run : set_in(where.held, which.all())) {
      const auto range = which.range_of(where, run);
      all.push_back({range, which.mapping_of(range).host});
    }
  }
  co_return co_await in.where->async_renew_addresses(std::move(all), resume_on{executor_});
}

task<result<void>> placer::start_tracking(dirty_sink& sink, const placed_regions& regions) {
  const auto outcomes =
      co_await ask_all([&](member in, std::size_t i) { return in.dirty->start(sink, held_in(regions, i)); });
  auto failed = first_failure(outcomes);
  if (!failed) {
    sink_ = &sink;
    co_return result<void>{};
  }
  const auto undoing = co_await ask_all([&](member in, std::size_t) { return in.dirty->stop(); });
  failed->undone = taken_back("tracking is off in every container", undoing);
  co_return *failed;
}

bool placer::has_failed() const noexcept {
  return std::any_of(members_.begin(), members_.end(), [](const member& in) { return in.dirty->has_failed(); });
}

task<void> placer::recover(const placed_regions& regions) {
  co_await ask_all([&](member in, std::size_t i) -> task<result<void>> {
    co_await in.dirty->recover(held_in(regions, i));
    co_return result<void>{};
  });
}

task<result<void>> placer::stop_tracking() {
  sink_ = nullptr;
  const auto outcomes = co_await ask_all([&](member in, std::size_t) { return in.dirty->stop(); });
  const auto failed = first_failure(outcomes);
  if (failed) co_return *failed;
  co_return result<void>{};
}

}  // namespace tidemark::dma
