// SPDX-License-Identifier: Apache-2.0

#include "dma/plain_plan.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

#include "dma/soundness.hpp"

namespace tidemark::dma {

namespace {

constexpr std::size_t in_the_cache = 8192;  // mappings that need no prefetch

/// What one change is about.
struct spot {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint64_t next = 0;  // of an unmap: where the book goes on behind it
  std::uint32_t which = 0;
};
using spots = std::vector<spot>;

spots& own_spots() {
  thread_local spots own;
  own.clear();
  return own;
}

/// In the order of the addresses; false if two of them meet.
bool arrange(spots& all) {
  const auto is_before = [](const spot& a, const spot& b) { return a.first < b.first; };
  if (!std::is_sorted(all.begin(), all.end(), is_before)) std::sort(all.begin(), all.end(), is_before);
  return std::adjacent_find(all.begin(), all.end(), [](const spot& a, const spot& b) { return b.first <= a.last; }) ==
         all.end();
}

bool are_like_the_first(std::span<const change> changes) {
  const auto& first = changes.front();
  if (first.what == change::kind::unmap_everything) return false;
  return std::all_of(changes.begin(), changes.end(), [&](const change& what) {
    return what.what == first.what && what.transaction == first.transaction && !what.is_alone();
  });
}

plan_step& add_step(change::kind what, const iova_range& at, plan& into) {
  auto& made = into.steps.emplace_back();
  made.what = what;
  made.at = at;
  made.served = static_cast<std::uint32_t>(into.served.size());
  made.served_count = 1;
  return made;
}

// ---- maps

bool is_plain_map(const change& what, const plan_limits& limits) {
  return is_sound(what, limits.page_size) && is_inside(what.at, limits.windows);
}

bool find_maps(std::span<const change> changes, const plan_limits& limits, spots& found) {
  for (std::uint32_t i = 0; i < changes.size(); ++i) {
    const auto& at = changes[i].at;
    if (!is_plain_map(changes[i], limits)) return false;
    found.push_back({at.iova, last_of(at), 0, i});
  }
  return arrange(found);
}

map_shape shape_of(const change& what) { return {what.at, what.host, what.unit, what.writable}; }

void add_map(const change& what, std::uint32_t which, plan& into) {
  auto& made = add_step(change::kind::map, what.at, into);
  made.host = what.host;
  made.writable = what.writable;
  into.served.push_back(which);
}

/// Neighbours become one, as far as their unit allows.
void write_maps(const spots& found, std::span<const change> changes, const plan_limits& limits, plan& into) {
  for (const auto& one : found) {
    const auto& asked = changes[one.which];
    auto* const before = into.steps.empty() ? nullptr : &into.steps.back();
    if (asked.unit != 0 && before != nullptr &&
        are_one({before->at, before->host, changes[into.served.back()].unit, before->writable}, shape_of(asked),
                limits.windows)) {
      before->at.size += asked.at.size;
      ++before->served_count;
      into.served.push_back(one.which);
    } else {
      add_map(asked, one.which, into);
    }
  }
}

bool plan_maps(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, plan& into) {
  if (changes.size() > limits.mappings_available) return false;
  auto& found = own_spots();
  if (!find_maps(changes, limits, found)) return false;
  write_maps(found, changes, limits, into);
  return std::all_of(into.steps.begin(), into.steps.end(),
                     [&](const plan_step& step) { return step.at.size <= limits.piece_bytes && now.is_free(step.at); });
}

// ---- unmaps

/// If it names just one mapping: where it is, and what comes behind.
bool find_unmap(const mapping_book& now, const change& what, const plan_limits& limits, spot& found) {
  if (!is_sound(what, limits.page_size)) return false;
  const auto held = now.find(what.at.iova);
  if (held == now.end() || held->second.size() != what.at.size || held->second.continues()) return false;
  const auto after = std::next(held);
  if (after != now.end() && after->second.continues()) return false;
  found.first = what.at.iova;
  found.last = last_of(what.at);
  found.next = after != now.end() ? after->first : 0;
  return true;
}

bool find_unmaps(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, spots& found) {
  found.resize(changes.size());
  for (std::uint32_t i = 0; i < changes.size(); ++i) {
    if (!find_unmap(now, changes[i], limits, found[i])) return false;
    found[i].which = i;
  }
  return arrange(found);
}

void add_unmap(const spot& of, plan& into) {
  add_step(change::kind::unmap, {of.first, of.last - of.first + 1}, into).is_just_what_is_held = true;
  into.served.push_back(of.which);
}

/// Those with nothing in between become one. All 2^64 bytes are no range.
void write_unmaps(const spots& found, const plan_limits& limits, plan& into) {
  const spot* before = nullptr;
  for (const auto& one : found) {
    const bool is_next =
        before != nullptr && (before->last + 1 == one.first || (limits.can_unmap_gaps && before->next == one.first));
    if (is_next && !(into.steps.back().at.iova == 0 && one.last + 1 == 0)) {
      auto& step = into.steps.back();
      step.at.size = one.last - step.at.iova + 1;
      ++step.served_count;
      into.served.push_back(one.which);
    } else {
      add_unmap(one, into);
    }
    before = &one;
  }
}

bool plan_unmaps(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, plan& into) {
  auto& found = own_spots();
  if (!find_unmaps(now, changes, limits, found)) return false;
  write_unmaps(found, limits, into);
  return true;
}

}  // namespace

bool plan_alone(const mapping_book& now, const change& what, const plan_limits& limits, plan_step& into) {
  into.what = what.what;
  into.at = what.at;
  into.served_count = 1;
  if (what.what == change::kind::map) {
    into.host = what.host;
    into.writable = what.writable;
    return limits.mappings_available != 0 && what.at.size <= limits.piece_bytes && is_plain_map(what, limits) &&
           now.is_free(what.at);
  }
  spot found;
  into.is_just_what_is_held = true;
  return what.what == change::kind::unmap && find_unmap(now, what, limits, found);
}

bool make_plain_plan(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, plan& into) {
  if (changes.empty()) return true;
  if (!are_like_the_first(changes)) return false;
  if (now.size() > in_the_cache)
    for (const auto& what : changes) now.prefetch(what.at.iova);
  const bool maps = changes.front().what == change::kind::map;
  const bool made = maps ? plan_maps(now, changes, limits, into) : plan_unmaps(now, changes, limits, into);
  if (!made) into.clear();
  return made;
}

}  // namespace tidemark::dma
