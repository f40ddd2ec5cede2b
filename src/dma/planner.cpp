// SPDX-License-Identifier: Apache-2.0

#include "dma/planner.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <iterator>
#include <limits>
#include <string>
#include <utility>

#include "dma/cutting.hpp"
#include "dma/plain_plan.hpp"
#include "dma/plan_refusals.hpp"
#include "dma/soundness.hpp"

namespace tidemark::dma {

namespace {

constexpr std::uint64_t top = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t half = 1ULL << 63;

// ---- What a batch comes to ----

/// Something to be done, for one change or for several that became one.
struct intent {
  enum class fate : std::uint8_t {
    stands,
    joined,     ///< a later intent does it as well
    cancelled,  ///< never to be done
    removed,    ///< to be done, and undone by a later intent
  };

  iova_range at;               // of unmap_everything: `iova` is where the halves meet
  std::byte* host = nullptr;   // of a map
  std::uint64_t unit = 0;      // of a map
  std::uint64_t piece = 0;     // of a map
  std::uint64_t needs = 0;     // of a map: mappings
  std::uint32_t group = 0;     // whose changes become one or cancel each other
  std::uint32_t first = 0;     // change; the others follow in workspace::next
  std::uint32_t last = 0;      // change
  std::uint32_t ended_by = 0;  // the change that removed it
  change::kind what = change::kind::map;
  fate state = fate::stands;
  bool writable = true;
  bool alone = false;
  bool early = false;  // nothing of the batch has to be done before
  bool freed = false;  // an unmap that found something in the book
};

/// Where an intent that maps stands.
struct place {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  std::uint32_t which = 0;
};

struct stretch {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};

/// What making a plan needs beside the plan. Kept by the thread, for its memory.
struct workspace {
  std::vector<intent> intents;         // in the order of their last changes
  std::vector<place> places;           // of the maps that stand, by IOVA
  std::vector<stretch> unmapped;       // where the book's mappings are gone, by IOVA; they do not meet
  std::vector<std::uint32_t> next;     // by change: the next one of the same intent
  std::vector<std::uint32_t> early;    // intents
  std::vector<plan_refusal> refusals;  // of one transaction

  void clear() {
    intents.clear();
    places.clear();
    unmapped.clear();
    early.clear();
  }
};

/// The first stretch or place that ends at or after `iova`. Its steps are multiplied, for no processor foretells them.
template <class Ranges>
auto reaching(Ranges& ranges, std::uint64_t iova) {
  if (ranges.empty() || ranges.back().last < iova) return ranges.end();  // batches are often in the order of the addresses
  const auto* base = ranges.data();
  for (auto count = ranges.size(); count > 1;) {
    const auto step = count / 2;
    base += step * static_cast<std::size_t>(base[step - 1].last < iova);
    count -= step;
  }
  return ranges.begin() + (base - ranges.data());
}

// ---- Steps ----

/// Writes intents down as steps.
class writer {
 public:
  writer(const mapping_book& now, const plan_limits& limits, plan& into) : now_(now), limits_(limits), into_(into) {}

  void map(const intent& what, std::span<const std::uint32_t> next) {
    unmapping_ = nullptr;
    const auto served = static_cast<std::uint32_t>(into_.served.size());
    for (auto change = what.first;; change = next[change]) {
      into_.served.push_back(change);
      if (change == what.last) break;
    }
    const auto served_count = static_cast<std::uint32_t>(into_.served.size()) - served;
    const cutting pieces(what.at, what.host, what.piece);
    for (std::uint64_t offset = 0; offset != what.at.size;) {
      const auto size = pieces.size_at(offset);
      auto& step = into_.steps.emplace_back();
      step.at = {what.at.iova + offset, size};
      step.host =
          std::bit_cast<std::byte*>(std::bit_cast<std::uintptr_t>(what.host) + offset);  // it may be over half of all
      step.writable = what.writable;
      step.continues = offset != 0;
      step.served = served;
      step.served_count = served_count;
      offset += size;
    }
  }

  /// `what` outlives the writer.
  void unmap(const intent& what) {
    if (unmapping_ != nullptr && is_next(what)) {
      auto& step = into_.steps.back();
      step.at.size = last_of(what.at) - step.at.iova + 1;
      ++step.served_count;
    } else {
      into_.steps.push_back({.what = change::kind::unmap,
                             .at = what.at,
                             .served = static_cast<std::uint32_t>(into_.served.size()),
                             .served_count = 1});
    }
    into_.served.push_back(what.first);
    unmapping_ = &what;
  }

  void unmap_everything(const intent& what) {
    unmapping_ = nullptr;
    const auto served = static_cast<std::uint32_t>(into_.served.size());
    into_.served.push_back(what.first);
    const auto half_of = [&](iova_range at) {
      into_.steps.push_back({.what = change::kind::unmap, .at = at, .served = served, .served_count = 1});
    };
    if (limits_.can_unmap_all) {
      into_.steps.push_back({.what = change::kind::unmap_everything, .served = served, .served_count = 1});
    } else {
      const auto middle = what.at.iova;
      half_of({0, middle});
      half_of({middle, 0 - middle});
    }
  }

 private:
  /// Whether an unmap can become one with the step before it. All 2^64 bytes are no range.
  bool is_next(const intent& what) const {
    const auto& before = into_.steps.back().at;
    if (what.group != unmapping_->group || what.alone || unmapping_->alone) return false;
    if (last_of(before) >= what.at.iova || (before.iova == 0 && last_of(what.at) == top)) return false;
    const iova_range gap{last_of(before) + 1, what.at.iova - last_of(before) - 1};
    if (gap.size == 0) return true;
    // What a later step unmaps or an earlier one mapped in the gap is not to be touched. Early ones come before all maps.
    return limits_.can_unmap_gaps && what.early && unmapping_->early && now_.is_free(gap);
  }

  const mapping_book& now_;
  const plan_limits& limits_;
  plan& into_;
  const intent* unmapping_ = nullptr;  // what the last step unmaps for
};

// ---- The changes, one after the other ----

class planner {
 public:
  planner(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, plan& into, workspace& space)
      : now_(now), changes_(changes), limits_(limits), into_(into), space_(space) {
    space_.clear();
    if (space_.next.size() < changes.size()) space_.next.resize(changes.size());
  }

  void make() {
    for (std::uint32_t i = 0; i < changes_.size();) {
      const auto transaction = changes_[i].transaction;
      if (transaction == 0) {
        group_ = 0;
        consider(i++);
        continue;
      }
      const auto begin = i;
      group_ = begin + 1;
      const auto before = mark();
      while (i < changes_.size() && changes_[i].transaction == transaction) consider(i++);
      if (into_.refused.size() != before.refused) take_back(before, begin, i);
    }
    write();
  }

 private:
  using fate = intent::fate;

  /// A point to go back to.
  struct milestone {
    std::size_t intents, settled, refused, unmapped_entries;
    std::int64_t used;
  };

  void consider(std::uint32_t which) {
    const auto& what = changes_[which];
    if (what.what == change::kind::unmap_everything) return unmap_everything(which);
    if (!is_sound(what, limits_.page_size)) return refuse(which, malformed(what, limits_.page_size));
    if (what.what == change::kind::map) return map(which);
    unmap(which);
  }

  [[gnu::cold]] void refuse(std::uint32_t which, error why) { into_.refused.push_back({which, std::move(why)}); }

  // ---- maps

  void map(std::uint32_t which) {
    const auto& what = changes_[which];
    if (!is_inside(what.at, limits_.windows)) return refuse(which, outside_window(what, limits_.windows));
    const auto at = reaching(space_.places, what.at.iova);
    if (at != space_.places.end() && at->first <= last_of(what.at))
      return refuse(which, already_mapped(what, space_.intents[at->which].at, true));
    if (const auto held = first_live(what.at); held != now_.end())
      return refuse(which, already_mapped(what, {held->first, held->second.size()}, false));
    add_map(which, at);
  }

  /// `at` is the place that the new one comes before.
  void add_map(std::uint32_t which, std::vector<place>::iterator at) {
    const auto& what = changes_[which];
    auto& made = add_intent(which);
    made.host = what.host;
    made.unit = what.unit;
    made.writable = what.writable;
    const bool joins_before = at != space_.places.begin() && become_one(space_.intents[std::prev(at)->which], made);
    if (joins_before) join(made, space_.intents[std::prev(at)->which], true);
    const bool joins_after = at != space_.places.end() && become_one(made, space_.intents[at->which]);
    if (joins_after) join(made, space_.intents[at->which], false);

    const auto room = left() + made.needs;
    if (room == 0) {  // so it has joined nothing
      space_.intents.pop_back();
      const auto wanted = cutting(what.at, what.host, usual_piece(limits_)).count();
      return refuse(which, no_mapping_left(what, wanted, now_.size(), limits_));
    }
    used_ -= static_cast<std::int64_t>(made.needs);
    made.piece = fitting_piece(made.at, made.host, limits_, room);
    made.needs = cutting(made.at, made.host, made.piece).count();
    used_ += static_cast<std::int64_t>(made.needs);
    set_place(at, joins_before, joins_after,
              {made.at.iova, last_of(made.at), static_cast<std::uint32_t>(space_.intents.size() - 1)});
  }

  /// Made where it stays: it is too large to be copied for nothing.
  intent& add_intent(std::uint32_t which) {
    auto& made = space_.intents.emplace_back();
    made.at = changes_[which].at;
    made.what = changes_[which].what;
    made.group = group_;
    made.first = which;
    made.last = which;
    return made;
  }

  bool become_one(const intent& low, const intent& high) const {
    return low.group == high.group && are_one({low.at, low.host, low.unit, low.writable},
                                              {high.at, high.host, high.unit, high.writable}, limits_.windows);
  }

  /// `made` becomes both.
  void join(intent& made, intent& there, bool there_is_low) {
    const auto& low = there_is_low ? there : made;
    const auto& high = there_is_low ? made : there;
    space_.next[low.last] = high.first;
    const auto first = low.first, last = high.last;
    made.at = {low.at.iova, low.at.size + high.at.size};
    made.host = low.host;
    made.first = first;
    made.last = last;
    made.needs += there.needs;
    there.state = fate::joined;
  }

  void set_place(std::vector<place>::iterator at, bool joins_before, bool joins_after, const place& made) {
    if (joins_before && joins_after) {
      *std::prev(at) = made;
      space_.places.erase(at);
    } else if (joins_before) {
      *std::prev(at) = made;
    } else if (joins_after) {
      *at = made;
    } else {
      space_.places.insert(at, made);
    }
  }

  // ---- unmaps

  void unmap(std::uint32_t which) {
    const auto& what = changes_[which];
    const auto last = last_of(what.at);
    const auto begin = reaching(space_.places, what.at.iova);
    auto end = begin;
    while (end != space_.places.end() && end->first <= last) ++end;
    if (begin != end && (begin->first < what.at.iova || std::prev(end)->last > last))
      return refuse(which,
                    would_cut(what, space_.intents[(begin->first < what.at.iova ? begin : std::prev(end))->which].at));
    const auto [count, cut] = held_in(what.at);
    if (cut != now_.end()) return refuse(which, would_cut(what, {cut->first, cut->second.size()}));

    const bool meets_others = end_places(which, begin, end);
    if (count == 0 && !meets_others) return into_.settled.push_back(which);
    // An unmap over what an earlier one named may only come after it: what that one unmapped may reach over the edge.
    const bool early = !meets_others && !is_unmapped(what.at);
    auto& made = add_intent(which);
    made.alone = what.is_alone();
    made.early = early;
    made.freed = count != 0;
    if (count == 0) return;
    set_unmapped({what.at.iova, last});
    unmapped_entries_ += count;
    used_ -= static_cast<std::int64_t>(count);
  }

  void unmap_everything(std::uint32_t which) {
    const auto middle = middle_of_everything();
    const bool meets_others = end_places(which, space_.places.begin(), space_.places.end());
    const auto count = now_.size() - unmapped_entries_;
    if (count == 0 && !meets_others) return into_.settled.push_back(which);
    auto& made = add_intent(which);
    made.at = {middle, 0};
    made.freed = true;
    set_unmapped({0, top});
    unmapped_entries_ += count;
    used_ -= static_cast<std::int64_t>(count);
  }

  /// Ends the maps at some places, which are all unmapped: those of this group are never made. Whether there are others.
  bool end_places(std::uint32_t which, std::vector<place>::iterator begin, std::vector<place>::iterator end) {
    bool others = false;
    for (auto at = begin; at != end; ++at) {
      auto& ended = space_.intents[at->which];
      ended.ended_by = which;
      ended.state = ended.group == group_ ? fate::cancelled : fate::removed;
      others = others || ended.state == fate::removed;
      used_ -= static_cast<std::int64_t>(ended.needs);
      if (ended.state == fate::cancelled) settle(ended);
    }
    space_.places.erase(begin, end);
    return others;
  }

  void settle(const intent& what) {
    for (auto change = what.first;; change = space_.next[change]) {
      into_.settled.push_back(change);
      if (change == what.last) return;
    }
  }

  /// Where to part the address space without cutting a mapping: in the middle if nothing is there.
  std::uint64_t middle_of_everything() const {
    iova_range over;
    if (const auto held = first_live({half, 1}); held != now_.end()) over = {held->first, held->second.size()};
    if (const auto at = reaching(space_.places, half); at != space_.places.end() && at->first < half)
      over = space_.intents[at->which].at;
    if (over.size == 0 || over.iova >= half) return half;
    return over.iova != 0 ? over.iova : over.size;
  }

  // ---- the book, less what the batch unmapped

  /// The entry at `at` or the first after it that the batch leaves, no further than `last`.
  mapping_book::const_iterator skip_unmapped(mapping_book::const_iterator at, std::uint64_t last) const {
    while (at != now_.end() && at->first <= last) {
      const auto gone = reaching(space_.unmapped, at->first);
      if (gone == space_.unmapped.end() || gone->first > at->first) return at;
      if (gone->last >= last) break;
      at = now_.first_in({gone->last + 1, last - gone->last});
    }
    return now_.end();
  }

  mapping_book::const_iterator first_live(const iova_range& range) const {
    return skip_unmapped(now_.first_in(range), last_of(range));
  }

  bool is_unmapped(const iova_range& range) const {
    const auto gone = reaching(space_.unmapped, range.iova);
    return gone != space_.unmapped.end() && gone->first <= last_of(range);
  }

  struct holding {
    std::size_t count;
    mapping_book::const_iterator cut;  // an entry that an unmap would cut or part from others; end() when there is none
  };

  holding held_in(const iova_range& range) const {
    const auto last = last_of(range);
    auto at = first_live(range);
    if (at == now_.end()) return {0, at};
    if (at->first < range.iova || at->second.continues()) return {0, at};
    std::size_t count = 0;
    auto tail = at;
    while (at != now_.end()) {
      ++count;
      tail = at;
      at = skip_unmapped(std::next(at), last);
    }
    if (last - tail->first < tail->second.size() - 1) return {0, tail};
    const auto after = std::next(tail);
    const bool parted = after != now_.end() && after->second.continues() && after->first - 1 == last;
    return {count, parted ? after : now_.end()};
  }

  void set_unmapped(stretch added) {
    const auto begin = reaching(space_.unmapped, added.first);
    auto end = begin;
    for (; end != space_.unmapped.end() && end->first <= added.last; ++end)
      added = {std::min(added.first, end->first), std::max(added.last, end->last)};
    if (begin == end) {
      space_.unmapped.insert(begin, added);
    } else {
      *begin = added;
      space_.unmapped.erase(std::next(begin), end);
    }
  }

  /// Mappings that are still available.
  std::uint64_t left() const {
    if (used_ >= 0) return limits_.mappings_available - static_cast<std::uint64_t>(used_);
    const auto freed = static_cast<std::uint64_t>(-used_);
    return limits_.mappings_available > half ? limits_.mappings_available : limits_.mappings_available + freed;
  }

  // ---- transactions

  milestone mark() const {
    return {space_.intents.size(), into_.settled.size(), into_.refused.size(), unmapped_entries_, used_};
  }

  /// Refuses a transaction as a whole, some of whose changes were refused.
  void take_back(const milestone& before, std::uint32_t begin, std::uint32_t end) {
    auto& own = space_.refusals;
    own.assign(std::make_move_iterator(into_.refused.begin() + static_cast<std::ptrdiff_t>(before.refused)),
               std::make_move_iterator(into_.refused.end()));
    into_.refused.resize(before.refused);
    auto next = own.begin();
    const auto first = own.front().why;
    for (auto which = begin; which != end; ++which)
      refuse(which,
             next != own.end() && next->which == which ? std::move((next++)->why) : all_or_none(changes_[which], first));

    into_.settled.resize(before.settled);
    unmapped_entries_ = before.unmapped_entries;
    used_ = before.used;
    const bool was_changed = space_.intents.size() != before.intents;
    space_.intents.resize(before.intents);
    if (was_changed) look_again(begin);
  }

  /// Finds from the intents what stands where; those that a change from `begin` on removed stand again.
  void look_again(std::uint32_t begin) {
    space_.places.clear();
    space_.unmapped.clear();
    for (std::uint32_t i = 0; i < space_.intents.size(); ++i) {
      auto& one = space_.intents[i];
      if (one.state == fate::removed && one.ended_by >= begin) one.state = fate::stands;
      if (one.what == change::kind::map && one.state == fate::stands)
        space_.places.push_back({one.at.iova, last_of(one.at), i});
      if (one.freed) set_unmapped(one.what == change::kind::unmap ? stretch{one.at.iova, last_of(one.at)} : stretch{0, top});
    }
    std::sort(space_.places.begin(), space_.places.end(), [](const place& a, const place& b) { return a.first < b.first; });
  }

  // ---- the plan

  void write() {
    writer out(now_, limits_, into_);
    write_early(out);
    for (const auto& one : space_.intents) {
      if (one.state == fate::joined || one.state == fate::cancelled || one.early) continue;
      if (one.what == change::kind::map)
        out.map(one, space_.next);
      else if (one.what == change::kind::unmap)
        out.unmap(one);
      else
        out.unmap_everything(one);
    }
  }

  /// They do not meet: any order will do, and by address the neighbours are found.
  void write_early(writer& out) {
    for (std::uint32_t i = 0; i < space_.intents.size(); ++i)
      if (space_.intents[i].early) space_.early.push_back(i);
    const auto is_before = [this](std::uint32_t a, std::uint32_t b) {
      const auto &left = space_.intents[a], &right = space_.intents[b];
      return left.group != right.group ? left.group < right.group : left.at.iova < right.at.iova;
    };
    if (!std::is_sorted(space_.early.begin(), space_.early.end(), is_before))
      std::sort(space_.early.begin(), space_.early.end(), is_before);
    for (const auto which : space_.early) out.unmap(space_.intents[which]);
  }

  const mapping_book& now_;
  const std::span<const change> changes_;
  const plan_limits& limits_;
  plan& into_;
  workspace& space_;
  std::uint32_t group_ = 0;           // of the change that is considered
  std::size_t unmapped_entries_ = 0;  // of the book
  std::int64_t used_ = 0;             // mappings more than in the book
};

}  // namespace

void plan::clear() noexcept {
  steps.clear();
  served.clear();
  settled.clear();
  refused.clear();
}

void make_plan(const mapping_book& now, std::span<const change> changes, const plan_limits& limits, plan& into) {
  into.clear();
  if (make_plain_plan(now, changes, limits, into)) return;
  thread_local workspace space;
  planner(now, changes, limits, into, space).make();
}

}  // namespace tidemark::dma
