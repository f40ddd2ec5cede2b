// SPDX-License-Identifier: Apache-2.0

#include "dma/plain_plan.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <vector>

#include "dma/soundness.hpp"

namespace tidemark::dma {

namespace {

/// What one change is about.
struct spot {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint64_t next = 0;  // of an unmap: where the book goes on behind it
  std::uint32_t which = 0;
};
using spots = std::vector<spot>;

/// In the order of the addresses; false if two of them meet.
bool arrange(spots& all) {
  const auto is_before = [](const spot& a, const spot& b) { return a.first < b.first; };
  if (!std::is_sorted(all.begin(), all.end(), is_before)) std::sort(all.begin(), all.end(), is_before);
  return std::adjacent_find(all.begin(), all.end(), [](const spot& a, const spot& b) { return b.first <= a.last; }) ==
         all.end();
}

bool is_plain(const change& what, change::kind kind) {
  return what.what == kind && what.transaction == 0 && what.unit == 0 && !what.alone;
}

bool are_plain(std::span<const change> changes, change::kind kind) {
  return std::all_of(changes.begin(), changes.end(), [kind](const change& what) { return is_plain(what, kind); });
}

bool find_maps(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, spots& found) {
  if (changes.size() > limits.mappings_available) return false;
  for (std::uint32_t i = 0; i < changes.size(); ++i) {
    const auto& at = changes[i].at;
    if (!is_sound(changes[i], limits.page_size) || at.size > limits.piece_bytes || !is_inside(at, limits.windows) ||
        !now.is_free(at))
      return false;
    found.push_back({at.iova, last_of(at), 0, i});
  }
  return arrange(found);
}

void write_maps(std::span<const change> changes, plan& into) {
  for (std::uint32_t i = 0; i < changes.size(); ++i) {
    const auto& asked = changes[i];
    into.steps.push_back({.what = change::kind::map,
                          .at = asked.at,
                          .host = asked.host,
                          .writable = asked.writable,
                          .served = i,
                          .served_count = 1});
    into.served.push_back(i);
  }
}

bool find_unmaps(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, spots& found) {
  for (std::uint32_t i = 0; i < changes.size(); ++i) {
    const auto& at = changes[i].at;
    if (!is_sound(changes[i], limits.page_size)) return false;
    const auto held = now.find(at.iova);
    if (held == now.end() || held->second.size() != at.size || held->second.continues()) return false;
    const auto after = std::next(held);
    if (after != now.end() && after->second.continues()) return false;
    found.push_back({at.iova, last_of(at), after != now.end() ? after->first : 0, i});
  }
  return arrange(found);
}

/// Those with nothing in between become one.
void write_unmaps(const spots& found, const plan_limits& limits, plan& into) {
  const spot* before = nullptr;
  for (const auto& one : found) {
    const bool touches = before != nullptr && before->last + 1 == one.first;
    const bool follows = before != nullptr && before->next == one.first;
    const bool is_all = before != nullptr && into.steps.back().at.iova == 0 && one.last + 1 == 0;
    if ((touches || (follows && limits.can_unmap_gaps)) && !is_all) {
      auto& step = into.steps.back();
      step.at.size = one.last - step.at.iova + 1;
      ++step.served_count;
    } else {
      into.steps.push_back({.what = change::kind::unmap,
                            .at = {one.first, one.last - one.first + 1},
                            .is_just_what_is_held = true,
                            .served = static_cast<std::uint32_t>(into.served.size()),
                            .served_count = 1});
    }
    into.served.push_back(one.which);
    before = &one;
  }
}

}  // namespace

bool make_plain_plan(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, plan& into) {
  if (changes.empty()) return true;
  thread_local spots found;
  found.clear();
  const auto kind = changes.front().what;
  if (kind == change::kind::unmap_everything || !are_plain(changes, kind)) return false;
  if (kind == change::kind::map) {
    if (!find_maps(now, changes, limits, found)) return false;
    write_maps(changes, into);
  } else {
    if (!find_unmaps(now, changes, limits, found)) return false;
    write_unmaps(found, limits, into);
  }
  return true;
}

}  // namespace tidemark::dma
