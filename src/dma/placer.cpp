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

/// Queries of one region in one container that are under way at a time.
constexpr std::size_t runs_at_once = 32;

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

/// Whether the container was not even asked: a group that came has changed what it can track.
bool cannot_tell(const error& what) {
  return what.code == make_error_code(errc::dirty_not_supported) || what.code == make_error_code(errc::bitmap_too_large);
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
  if (!in.tracking || !which.is_ram()) {
    auto unmapped = co_await in.where->async_unmap(range, resume_on{executor_});
    if (sink_ && which.is_ram()) report_all(*sink_, which, range);
    if (!unmapped) co_return unmapped.error();
    co_return result<void>{};
  }
  std::vector<std::uint64_t> dirty(core::words_for(range.size / in.page_size));
  auto unmapped = co_await in.where->async_unmap(range, dirty, resume_on{executor_});
  if (!unmapped && cannot_tell(unmapped.error())) {
    in.tracking = false;
    co_return co_await unmap_range(in, which, range);
  }
  if (!unmapped) {
    if (sink_) report_all(*sink_, which, range);  // what the kernel had recorded may be gone with the failed call
    co_return unmapped.error();
  }
  if (sink_) report(*sink_, which, range, in.page_size, dirty);
  co_return result<void>{};
}

task<void> placer::query(const placed_region& which) {
  if (!which.is_ram()) co_return;
  co_await ask_all([&](member in, std::size_t i) -> task<result<void>> {
    co_await query_placement(in, which, which.in[i]);
    co_return result<void>{};
  });
}

/// A run of pieces is asked about at once: the mappings of its granules follow each other.
task<void> placer::query_placement(member in, const placed_region& which, const placement& where) {
  const auto runs = set_in(where.held, which.all());
  co_await in_slices(runs.size(), runs_at_once,
                     [&](std::size_t i) { return query_run(in, which, which.range_of(where, runs[i])); });
}

task<void> placer::query_run(member in, const placed_region& which, iova_range range) {
  if (!in.tracking) {
    report_all(*sink_, which, range);
    co_return;
  }
  std::vector<std::uint64_t> dirty(core::words_for(range.size / in.page_size));
  const auto queried = co_await in.where->async_query_dirty(range, dirty, resume_on{executor_});
  if (!sink_) co_return;
  queried ? report(*sink_, which, range, in.page_size, dirty) : report_all(*sink_, which, range);
}

placer::members::iterator placer::find(const container& which) {
  return std::find_if(members_.begin(), members_.end(), [&](const member& in) { return in.where == &which; });
}

task<result<void>> placer::join(container& coming, std::uint64_t page_size, placed_regions& regions) {
  member joining{&coming, page_size, false};
  if (sink_) joining.tracking = (co_await coming.async_start_dirty_tracking(resume_on{executor_})).has_value();
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

task<result<void>> placer::start_tracking(dirty_sink& sink) {
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

task<result<void>> placer::stop_tracking() {
  sink_ = nullptr;
  result<void> outcome;
  for (auto& in : members_) {
    if (!std::exchange(in.tracking, false)) continue;
    if (auto stopped = co_await in.where->async_stop_dirty_tracking(resume_on{executor_}); !stopped) outcome = stopped;
  }
  co_return outcome;
}

}  // namespace tidemark::dma
