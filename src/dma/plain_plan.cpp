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

/// Where one change begins.
struct spot {
  std::uint64_t first = 0;
  std::uint32_t which = 0;
};
using spots = std::vector<spot>;

/// All of them in the order of the addresses, in memory of this thread.
const spots& arranged(std::span<const change> changes) {
  thread_local spots own;
  own.resize(changes.size());
  for (std::uint32_t i = 0; i < changes.size(); ++i) own[i] = {changes[i].at.iova, i};
  const auto is_before = [](const spot& a, const spot& b) { return a.first < b.first; };
  if (!std::is_sorted(own.begin(), own.end(), is_before)) std::sort(own.begin(), own.end(), is_before);
  return own;
}

bool are_like_the_first(std::span<const change> changes) {
  const auto& first = changes.front();
  if (first.what == change::kind::unmap_everything) return false;
  return std::all_of(changes.begin(), changes.end(), [&](const change& what) {
    return what.what == first.what && what.transaction == first.transaction && !what.is_alone();
  });
}

void add_step(const change& what, plan& into) {
  into.steps.push_back({.what = what.what,
                        .at = what.at,
                        .host = what.host,
                        .writable = what.writable,
                        .is_just_what_is_held = what.what == change::kind::unmap,
                        .served = static_cast<std::uint32_t>(into.served.size())});
}

/// The last step is for this one, too.
void serve(std::uint32_t which, plan& into) {
  into.served.push_back(which);
  ++into.steps.back().served_count;
}

// ---- maps

bool is_plain_map(const change& what, const plan_limits& limits) {
  return is_sound(what, limits.page_size) && is_inside(what.at, limits.windows);
}

/// The book is asked once for each of its gaps, if ranges are asked about upwards.
class gaps {
 public:
  explicit gaps(const mapping_book& now) : now_(now) {}

  bool hold(const iova_range& range) {
    if (range.iova < first_ || range.iova > last_) {
      const auto last = now_.last_free(range.iova);
      if (!last) return false;
      first_ = range.iova;
      last_ = *last;
    }
    return last_of(range) <= last_;
  }

 private:
  const mapping_book& now_;
  std::uint64_t first_ = 1;  // of the gap that was found last
  std::uint64_t last_ = 0;
};

map_shape shape_of(const change& what) { return {what.at, what.host, what.unit, what.writable}; }

/// Whether the last step, which ends with `before`, and this map become one.
bool goes_on(const plan_step& step, const change& before, const change& what, const plan_limits& limits) {
  return what.unit != 0 && are_one({step.at, step.host, before.unit, step.writable}, shape_of(what), limits.windows);
}

/// Neighbours become one, as far as their unit allows.
bool plan_maps(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, plan& into) {
  if (changes.size() > limits.mappings_available) return false;
  gaps free(now);
  const change* before = nullptr;
  for (const auto& one : arranged(changes)) {
    const auto& asked = changes[one.which];
    if (!is_plain_map(asked, limits) || !free.hold(asked.at)) return false;
    if (before != nullptr && asked.at.iova <= last_of(before->at)) return false;
    if (before != nullptr && goes_on(into.steps.back(), *before, asked, limits)) {
      into.steps.back().at.size += asked.at.size;
    } else {
      add_step(asked, into);
    }
    if (into.steps.back().at.size > limits.piece_bytes) return false;
    serve(one.which, into);
    before = &asked;
  }
  return true;
}

// ---- unmaps

using held_place = mapping_book::const_iterator;

/// Whether the range is just what is held there, before `after`.
bool is_just(const iova_range& range, held_place held, held_place after, const mapping_book& now) {
  return held->second.size() == range.size && !held->second.continues() &&
         (after == now.end() || !after->second.continues());
}

/// Those with nothing in between become one. All 2^64 bytes are no range.
bool plan_unmaps(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, plan& into) {
  const change* before = nullptr;
  auto after = now.end();  // what the book holds behind that
  for (const auto& one : arranged(changes)) {
    const auto& at = changes[one.which].at;
    if (!is_sound(changes[one.which], limits.page_size)) return false;
    if (before != nullptr && before->at.iova == at.iova) return false;
    const bool is_next = after != now.end() && after->first == at.iova;
    const auto held = is_next ? after : now.find(at.iova);
    if (held == now.end()) return false;
    after = std::next(held);
    if (!is_just(at, held, after, now)) return false;
    const bool joins = is_next && (limits.can_unmap_gaps || last_of(before->at) + 1 == at.iova);
    if (joins && !(into.steps.back().at.iova == 0 && last_of(at) + 1 == 0)) {
      into.steps.back().at.size = last_of(at) - into.steps.back().at.iova + 1;
    } else {
      add_step(changes[one.which], into);
    }
    serve(one.which, into);
    before = &changes[one.which];
  }
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
  into.is_just_what_is_held = true;
  if (what.what != change::kind::unmap || !is_sound(what, limits.page_size)) return false;
  const auto held = now.find(what.at.iova);
  return held != now.end() && is_just(what.at, held, std::next(held), now);
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
