// SPDX-License-Identifier: Apache-2.0
//
// A million random batches, planned, carried out on a kernel that refuses whatever type1 would refuse, and compared with the
// same changes made one after the other, page by page, by a reference that is written to be obvious. Batches come in storms:
// each finds what the ones before it left, so what was merged or cut is later unmapped as it may be, and as it may not.
// A seed names a storm.

#include <algorithm>
#include <array>
#include <bit>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "dma/plain_plan.hpp"
#include "dma/planner.hpp"

using namespace tidemark;
using namespace tidemark::dma;

namespace {

using kind = change::kind;

constexpr std::size_t pages = 64;  // that changes are about; with pages of 2^58 bytes that is all there are
constexpr std::uint64_t half = 1ULL << 63;

std::byte* pointer_to(std::uint64_t address) { return std::bit_cast<std::byte*>(std::uintptr_t{address}); }
std::uint64_t address_of(const std::byte* pointer) { return std::bit_cast<std::uintptr_t>(pointer); }
std::uint64_t last_of(const iova_range& range) { return range.iova + (range.size - 1); }
bool covers(const iova_range& outer, const iova_range& inner) {
  return outer.iova <= inner.iova && last_of(outer) >= last_of(inner);
}
bool meet(const iova_range& a, const iova_range& b) { return a.iova <= last_of(b) && b.iova <= last_of(a); }

/// What a storm is about: the pages and what may be done with them.
struct ground {
  std::uint64_t base = 0;  // IOVA of page 0
  plan_limits limits;
  std::vector<iova_range> windows;

  std::uint64_t page() const { return limits.page_size; }
  iova_range page_at(std::size_t index) const { return {base + index * page(), page()}; }
  iova_range at(std::size_t index, std::size_t count) const { return {base + index * page(), count * page()}; }
  bool allows(const iova_range& range) const {
    return windows.empty() ||
           std::any_of(windows.begin(), windows.end(), [&](const auto& one) { return covers(one, range); });
  }
};

struct failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

void require(bool holds, const char* what) {
  if (!holds) throw failure(what);
}

// ---- The reference ----

enum class outcome { served, settled, refused };

struct verdict {
  outcome what = outcome::served;
  boost::system::error_code code;
};

/// The changes made one after the other, page by page.
class reference {
 public:
  explicit reference(const ground& where) : where_(where), cells_(pages) {}

  struct cell {
    int thing = -1;  // what was asked for as one; -1: nothing is mapped
    std::uint64_t host = 0;
    bool writable = true;
  };
  struct thing {
    std::uint32_t group = 0;
    bool held = false;  // from before the batch
    std::uint64_t unit = 0;
    std::uint64_t piece = 0;  // bytes; 0: in one
    std::uint64_t mappings = 0;
  };

  void make(const std::vector<change>& changes, std::uint64_t available) {
    for (auto& one : state_.things) one.held = true;
    state_.verdicts.assign(changes.size(), {});
    state_.made.assign(changes.size(), -1);
    state_.left = available;
    for (std::uint32_t i = 0; i < changes.size();) {
      const auto before = changes[i].transaction != 0 ? std::pair(state_, cells_) : std::pair<state, std::vector<cell>>();
      const auto begin = i;
      const auto number = changes[i].transaction;
      do make(changes[i], i, number == 0 ? 0 : begin + 1);
      while (++i < changes.size() && number != 0 && changes[i].transaction == number);
      if (number != 0) all_or_none(before, begin, i);
    }
  }

  const std::vector<cell>& cells() const { return cells_; }
  const verdict& of(std::uint32_t which) const { return state_.verdicts[which]; }
  /// What a map that was made became a part of.
  const thing& made_by(std::uint32_t which) const { return state_.things[static_cast<std::size_t>(state_.made[which])]; }

 private:
  struct state {
    std::vector<thing> things;
    std::vector<verdict> verdicts;
    std::vector<int> made;  // the thing, by change
    std::uint64_t left = 0;
  };

  void all_or_none(const std::pair<state, std::vector<cell>>& before, std::uint32_t begin, std::uint32_t end) {
    const auto verdicts = state_.verdicts;
    const auto is_refused = [](const verdict& one) { return one.what == outcome::refused; };
    const auto first = std::find_if(verdicts.begin() + begin, verdicts.begin() + end, is_refused);
    if (first == verdicts.begin() + end) return;
    state_ = before.first;
    cells_ = before.second;
    for (auto i = begin; i < end; ++i) state_.verdicts[i] = is_refused(verdicts[i]) ? verdicts[i] : *first;
  }

  void make(const change& what, std::uint32_t which, std::uint32_t group) {
    if (what.what == kind::map)
      state_.verdicts[which] = map(what, which, group);
    else
      state_.verdicts[which] = unmap(what, group);
  }

  static verdict refusal(int errno_value) { return {outcome::refused, {errno_value, boost::system::system_category()}}; }
  static verdict refusal(errc code) { return {outcome::refused, make_error_code(code)}; }

  bool is_malformed(const change& what) const {
    const auto& [iova, size] = what.at;
    if (size == 0 || iova % where_.page() != 0 || size % where_.page() != 0 || iova + size - 1 < iova) return true;
    if (what.what != kind::map) return false;
    const auto host = address_of(what.host);
    return host % where_.page() != 0 || host + size - 1 < host;
  }

  verdict map(const change& what, std::uint32_t which, std::uint32_t group) {
    if (is_malformed(what)) return refusal(EINVAL);
    if (!where_.allows(what.at)) return refusal(errc::outside_window);
    for (std::size_t i = 0; i < pages; ++i)
      if (cells_[i].thing >= 0 && meet(where_.page_at(i), what.at)) return refusal(EEXIST);

    const int before = joinable(what, group, what.at.iova - where_.page(), -1);
    const int after = joinable(what, group, last_of(what.at) + 1, +1);
    if (before < 0 && after < 0 && state_.left == 0) return refusal(errc::no_mapping_left);
    state_.made[which] = static_cast<int>(state_.things.size());
    state_.things.push_back({group, false, what.unit, 0, 0});
    for (std::size_t i = 0; i < pages; ++i)
      if (covers(what.at, where_.page_at(i)))
        cells_[i] = {state_.made[which], address_of(what.host) + (where_.page_at(i).iova - what.at.iova), what.writable};
    for (const int other : {before, after})
      if (other >= 0) become(other, state_.made[which]);
    cut(state_.made[which]);
    return {};
  }

  /// The thing at the page at `neighbour`, if a map next to it becomes one with it.
  int joinable(const change& what, std::uint32_t group, std::uint64_t neighbour, int direction) const {
    if (what.unit == 0) return -1;
    for (std::size_t i = 0; i < pages; ++i) {
      if (where_.page_at(i).iova != neighbour || cells_[i].thing < 0) continue;
      const auto& there = state_.things[static_cast<std::size_t>(cells_[i].thing)];
      const auto host = address_of(what.host) + (neighbour - what.at.iova);
      if (there.held || there.group != group || there.unit != what.unit) return -1;
      if (cells_[i].writable != what.writable || cells_[i].host != host) return -1;
      const auto theirs = range_of(cells_[i].thing);
      const auto low = direction < 0 ? theirs.iova : what.at.iova;
      const auto high = direction < 0 ? last_of(what.at) : last_of(theirs);
      if (low / what.unit != high / what.unit || low > high || !where_.allows({low, high - low + 1})) return -1;
      return cells_[i].thing;
    }
    return -1;
  }

  iova_range range_of(int which) const {
    iova_range all;
    for (std::size_t i = 0; i < pages; ++i) {
      if (cells_[i].thing != which) continue;
      if (all.size == 0) all.iova = where_.page_at(i).iova;
      all.size += where_.page();
    }
    return all;
  }

  void become(int which, int other) {
    for (auto& one : cells_)
      if (one.thing == which) one.thing = other;
    for (auto& one : state_.made)
      if (one == which) one = other;
    state_.left += state_.things[static_cast<std::size_t>(which)].mappings;
  }

  void cut(int which) {
    auto& one = state_.things[static_cast<std::size_t>(which)];
    one.piece = where_.limits.piece_bytes;
    while (pieces(range_of(which), host_of(which), one.piece) > state_.left)
      one.piece = one.piece == half ? 0 : one.piece * 2;
    one.mappings = pieces(range_of(which), host_of(which), one.piece);
    state_.left -= one.mappings;
  }

  std::uint64_t host_of(int which) const {
    return std::find_if(cells_.begin(), cells_.end(), [&](const cell& one) { return one.thing == which; })->host;
  }

  std::uint64_t pieces(const iova_range& at, std::uint64_t host, std::uint64_t piece) const {
    if (piece == 0 || at.size <= piece) return 1;
    const bool aligned = at.iova % (2ULL << 20) == host % (2ULL << 20);
    std::uint64_t count = 1;
    for (std::uint64_t offset = where_.page(); offset < at.size; offset += where_.page())
      count += ((aligned ? at.iova + offset : offset) % piece == 0) ? 1U : 0U;
    return count;
  }

  verdict unmap(const change& what, std::uint32_t group) {
    const bool everything = what.what == kind::unmap_everything;
    if (!everything && is_malformed(what)) return refusal(EINVAL);
    const auto is_named = [&](std::size_t page) { return everything || meet(what.at, where_.page_at(page)); };
    std::vector<int> named;
    for (std::size_t i = 0; i < pages; ++i)
      if (cells_[i].thing >= 0 && is_named(i)) named.push_back(cells_[i].thing);
    named.erase(std::unique(named.begin(), named.end()), named.end());
    for (std::size_t i = 0; i < pages; ++i)
      if (!is_named(i) && cells_[i].thing >= 0 && std::find(named.begin(), named.end(), cells_[i].thing) != named.end())
        return refusal(EINVAL);
    for (auto& one : cells_)
      if (std::find(named.begin(), named.end(), one.thing) != named.end()) one = {};
    bool all_settled = true;
    for (const int which : named) all_settled = end(which, group) && all_settled;
    return {all_settled ? outcome::settled : outcome::served, {}};
  }

  /// Whether it was never told of.
  bool end(int which, std::uint32_t group) {
    const auto& one = state_.things[static_cast<std::size_t>(which)];
    state_.left += one.mappings;
    if (one.held || one.group != group) return false;
    for (std::size_t i = 0; i < state_.made.size(); ++i)
      if (state_.made[i] == which) state_.verdicts[i].what = outcome::settled;
    return true;
  }

  const ground& where_;
  std::vector<cell> cells_;
  state state_;
};

// ---- The kernel ----

/// Type1 at its strictest.
class strict_kernel {
 public:
  explicit strict_kernel(const ground& where) : where_(where) {}

  void allow(std::uint64_t mappings) { most_ = mappings_.size() + mappings; }

  /// Carries a step out, and writes it down as the carrier of a plan does.
  void carry_out(const plan_step& step, bool may_be_empty, mapping_book& book) {
    if (step.what == kind::map) {
      map(step);
      book.add(step.at.iova, {step.at.size, step.host, step.writable, step.continues});
    } else if (step.what == kind::unmap) {
      unmap(step.at, may_be_empty);
      book.remove(step.at);
    } else {
      require(where_.limits.can_unmap_all, "everything was unmapped in one where it cannot");
      mappings_.clear();
      book.clear();
    }
  }

  std::size_t size() const { return mappings_.size(); }

  struct mapping {
    std::uint64_t size, host;
    bool writable;
  };
  const std::map<std::uint64_t, mapping>& mappings() const { return mappings_; }

 private:
  void map(const plan_step& step) {
    const auto size = step.at.size;
    require(size != 0 && step.at.iova % where_.page() == 0 && size % where_.page() == 0, "a misaligned map");
    require(address_of(step.host) % where_.page() == 0 && last_of(step.at) >= step.at.iova, "a misaligned or wrapping map");
    require(where_.allows(step.at), "a map outside the windows");
    require(!crossed(last_of(step.at)) && mappings_.lower_bound(step.at.iova) == mappings_.upper_bound(last_of(step.at)) &&
                !crossed(step.at.iova - 1),
            "a map over another");
    require(mappings_.size() < most_, "a map over the budget");
    mappings_[step.at.iova] = {size, address_of(step.host), step.writable};
  }

  void unmap(const iova_range& at, bool may_be_empty) {
    require(at.size != 0 && at.iova % where_.page() == 0 && at.size % where_.page() == 0, "a misaligned unmap");
    require(last_of(at) >= at.iova, "an unmap that wraps");
    require(!crossed(at.iova - 1) && !crossed(last_of(at)), "an unmap that bisects a mapping");
    const auto begin = mappings_.lower_bound(at.iova);
    const auto end = mappings_.upper_bound(last_of(at));
    require(may_be_empty || begin != end, "an unmap of nothing");
    mappings_.erase(begin, end);
  }

  /// Whether one mapping holds this byte and the next.
  bool crossed(std::uint64_t byte) const {
    const auto after = mappings_.upper_bound(byte);
    if (after == mappings_.begin() || byte == ~0ULL) return false;
    const auto& [iova, what] = *std::prev(after);
    return byte - iova < what.size - 1;
  }

  const ground& where_;
  std::map<std::uint64_t, mapping> mappings_;
  std::uint64_t most_ = 0;
};

// ---- What is counted, to know that the storms were storms ----

struct tally {
  std::uint64_t plans = 0, changes = 0, steps = 0, settled = 0, merged = 0, cut = 0, enlarged = 0, joined = 0,
                everything = 0, halves = 0, moved_halves = 0, kept_in_order = 0, whole_transactions = 0, taken_back = 0,
                at_the_end = 0, plain = 0, spanning = 0;
  std::map<int, std::uint64_t> refused;
};

// ---- Batches ----

class author {
 public:
  author(std::mt19937_64& engine, const ground& where) : engine_(engine), where_(where) {
    for (auto& one : units_) one = below(3) == 0 ? 0 : std::uint64_t(where.page()) << std::min<std::uint64_t>(below(6), 5);
  }

  std::vector<change> batch(const reference& now) {
    for (std::size_t i = 0; i < pages; ++i) taken_[i] = now.cells()[i].thing;
    const auto count = below(4) == 0 ? 1 + below(3) : 1 + below(40);
    const auto transactions = below(3);  // none, some, only those
    kinds_ = below(4) == 0 ? 1 + below(2) : 0;
    std::vector<change> all;
    std::uint32_t number = 0;
    while (all.size() < count) {
      if (below(3) == 0)
        number = transactions == 0 || (transactions == 1 && below(2) == 0) ? 0 : std::uint32_t(1 + below(3));
      all.push_back(one(all));
      all.back().transaction = number;
    }
    return all;
  }

 private:
  std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }

  change one(const std::vector<change>& before) {
    if (below(100) == 0) return malformed();
    if (kinds_ == 1) return map();
    if (kinds_ == 2) return unmap(before);
    if (below(60) == 0) return {.what = kind::unmap_everything};
    return below(2) == 0 ? unmap(before) : map();
  }

  change map() {
    auto count = below(8) == 0 ? 1 + below(pages) : 1 + below(4);
    if (below(8) != 0) cursor_ = free_from(cursor_);
    if (below(12) != 0)  // most fit
      for (std::size_t i = 1; i < count; ++i)
        if (cursor_ + i >= pages || taken_[cursor_ + i] >= 0) count = i;
    count = std::min<std::uint64_t>(count, pages - cursor_);
    change made{.at = where_.at(cursor_, count)};
    made.host = pointer_to(host_of(cursor_));
    made.writable = below(12) != 0;
    made.unit = kinds_ == 1 ? 0 : units_[below(10) == 0 ? 1 : 0];
    for (std::size_t i = 0; i < count; ++i)
      taken_[cursor_ + i] = 1'000'000 + static_cast<int>(made.at.iova / where_.page() % 4096);
    if (below(5) == 0)
      cursor_ = below(pages);
    else
      cursor_ = below(4) == 0 ? (cursor_ + pages - count) % pages : (cursor_ + count) % pages;
    return made;
  }

  std::size_t free_from(std::size_t at) const {
    for (std::size_t i = 0; i < pages; ++i)
      if (taken_[(at + i) % pages] < 0) return (at + i) % pages;
    return at;
  }

  /// Mostly one memory behind all of it, so that neighbours in IOVA are neighbours there.
  std::uint64_t host_of(std::size_t page) {
    const auto shift = below(10) == 0 ? below(4) : 0;
    const auto first =
        where_.page() > (1ULL << 40) ? 0 : (0x7ULL << 44) + where_.base % (1ULL << 30) + skew_ * where_.page();
    return first + (page + shift) * where_.page();
  }

  change unmap(const std::vector<change>& before) {
    static std::uint64_t bits = 0;
    change made{.what = kind::unmap, .at = range_to_unmap(before)};
    if (below(6) == 0 && kinds_ != 2) made.dirty = {&bits, 1};
    for (std::size_t i = 0; i < pages; ++i)
      if (made.at.size != 0 && covers(made.at, where_.page_at(i))) taken_[i] = -1;
    return made;
  }

  iova_range range_to_unmap(const std::vector<change>& before) {
    switch (below(12)) {
      case 0:
        return any_range();
      case 1:
      case 2:
      case 3:
        if (!before.empty() && before[before.size() - 1 - below(std::min<std::size_t>(before.size(), 6))].at.size != 0)
          return sound(before[before.size() - 1 - below(std::min<std::size_t>(before.size(), 6))].at);
        return any_range();
      case 4:
      case 5:
        return unit_around(cursor_);
      case 6:
        return below(8) == 0 ? iova_range{0, 0 - where_.page()} : runs(1 + below(4));
      default:
        return runs(1 + below(2));
    }
  }

  iova_range sound(const iova_range& range) {
    return range.size == 0 || range.iova % where_.page() != 0 || range.size % where_.page() != 0 ? any_range() : range;
  }
  iova_range any_range() {
    const auto from = below(pages);
    return where_.at(from, 1 + below(std::min<std::uint64_t>(pages - from, 12)));
  }

  /// Some of what is mapped as one each, one after the other.
  iova_range runs(std::uint64_t count) {
    auto from = last_end_ != 0 && below(2) == 0 ? last_end_ % pages : below(pages);
    while (from > 0 && taken_[from] >= 0 && taken_[from - 1] == taken_[from]) --from;
    auto to = from;
    for (std::uint64_t i = 0; i < count && to < pages; ++i) {
      const auto what = taken_[to];
      while (to < pages && taken_[to] == what) ++to;
    }
    if (taken_[from] < 0 && count == 1) to = std::min<std::size_t>(to, from + 2);
    last_end_ = to;
    return where_.at(from, to - from);
  }

  iova_range unit_around(std::size_t page) {
    const auto unit = std::max(units_[0], where_.page());
    return {where_.page_at(page).iova & ~(unit - 1), unit};
  }

  change malformed() {
    auto made = map();
    if (below(3) == 0) made.what = kind::unmap;
    switch (below(5)) {
      case 0:
        made.at.iova += 512;
        return made;
      case 1:
        made.at.size -= 512;
        return made;
      case 2:
        made.at.size = 0;
        return made;
      case 3:
        made.host = pointer_to(address_of(made.host) + 512);
        return made;
      default:
        made.at.size = 0 - where_.page();  // wraps, unless it begins at 0 or 1
        if (made.at.iova < 2 * where_.page()) made.what = kind::unmap;
        return made;
    }
  }

  std::mt19937_64& engine_;
  const ground& where_;
  std::array<std::uint64_t, 2> units_{};
  std::uint64_t kinds_ = 0;         // of the batch: 1, only maps that stand alone; 2, only unmaps
  std::array<int, pages> taken_{};  // roughly: what is mapped as one
  std::uint64_t skew_ = engine_() % 3 == 0 ? engine_() % 5 : 0;
  std::size_t cursor_ = 0;
  std::size_t last_end_ = 0;
};

// ---- A storm ----

class storm {
 public:
  storm(std::uint64_t seed, tally& counted) : engine_(seed), counted_(counted) {
    choose_ground();
    expected_.emplace(where_);
    kernel_.emplace(where_);
  }

  void rage(int batches) {
    author writes(engine_, where_);
    for (number_ = 0; number_ < batches; ++number_) {
      changes_ = writes.batch(*expected_);
      const auto available = below(3) == 0 ? below(8) : below(3) == 0 ? below(64) : 65535 - kernel_->size();
      where_.limits.mappings_available = available;
      where_.limits.can_unmap_all = below(2) == 0;
      where_.limits.can_unmap_gaps = below(2) == 0;
      kernel_->allow(available);
      plan_.clear();
      counted_.plain += make_plain_plan(book_, changes_, where_.limits, plan_) ? 1U : 0U;
      make_plan(book_, changes_, where_.limits, plan_);
      expected_->make(changes_, available);
      only_unmaps_ = has_only_unmaps();
      check_verdicts();
      check_steps();
      check_unmaps();
      carry_out();
      check_mappings();
      count();
    }
  }

  std::string describe() const {
    std::ostringstream text;
    text << "batch " << number_ << std::hex << ", pages of 0x" << where_.page() << " from 0x" << where_.base << ", pieces 0x"
         << where_.limits.piece_bytes << std::dec << ", available " << where_.limits.mappings_available << "\n";
    for (std::size_t i = 0; i < changes_.size(); ++i) {
      const auto& one = changes_[i];
      const auto from = static_cast<std::int64_t>((one.at.iova - where_.base) / where_.page());
      text << "  " << i << ": "
           << (one.what == kind::map     ? "map "
               : one.what == kind::unmap ? "unmap "
                                         : "everything ")
           << from << "+" << one.at.size / where_.page() << " host 0x" << std::hex << address_of(one.host) << " unit 0x"
           << one.unit << std::dec << (one.writable ? "" : " read-only") << (one.is_alone() ? " alone" : "")
           << " transaction " << one.transaction << " -> "
           << static_cast<int>(expected_->of(static_cast<std::uint32_t>(i)).what) << " "
           << expected_->of(static_cast<std::uint32_t>(i)).code.message();
      if (i < verdicts_.size())
        text << ", found " << static_cast<int>(verdicts_[i].what) << " " << verdicts_[i].code.message();
      text << "\n";
    }
    for (const auto& step : plan_.steps) {
      text << "  step " << static_cast<int>(step.what) << " " << (step.at.iova - where_.base) / where_.page() << "+"
           << step.at.size / where_.page() << (step.continues ? " continues" : "") << " for";
      for (const auto which : plan_.served_by(step)) text << " " << which;
      text << "\n";
    }
    return text.str();
  }

 private:
  std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }

  void choose_ground() {
    constexpr std::array<std::uint64_t, 5> sizes{4096, 65536, 2ULL << 20, 1ULL << 30, 1ULL << 58};
    const auto page = sizes[below(sizes.size())];
    where_.limits.page_size = page;
    where_.limits.piece_bytes = below(3) == 0 ? half : page << std::min<std::uint64_t>(below(5), 5);
    if (page < (1ULL << 58)) {
      const std::array<std::uint64_t, 5> bases{0, 0 - pages * page, half - 20 * page, 4ULL << 30, (1ULL << 33) + 7 * page};
      where_.base = bases[below(bases.size())];
    }
    if (below(3) == 0) {
      for (std::uint64_t from = below(8); from < pages;) {
        const auto count = std::min<std::uint64_t>(8 + below(40), pages - from);
        where_.windows.push_back(where_.at(from, count));
        from += count + (below(2) == 0 ? 0 : below(6));
      }
    }
    where_.limits.windows = where_.windows;
  }

  /// Every change is one of served, settled and refused, and that which the reference says.
  void check_verdicts() {
    verdicts_.assign(changes_.size(), {});
    told_.assign(changes_.size(), 0);
    for (const auto which : plan_.served) told_.at(which) = 1;
    for (const auto which : plan_.settled) tell_once(which, outcome::settled);
    for (const auto& [which, why] : plan_.refused) {
      tell_once(which, outcome::refused);
      verdicts_[which].code = why.code;
      check_words(changes_[which], why);
    }
    require(std::is_sorted(plan_.refused.begin(), plan_.refused.end(),
                           [](const plan_refusal& a, const plan_refusal& b) { return a.which < b.which; }),
            "refusals out of order");
    for (std::uint32_t i = 0; i < changes_.size(); ++i) {
      require(told_[i] != 0, "a change was forgotten");
      require(verdicts_[i].what == expected_->of(i).what && verdicts_[i].code == expected_->of(i).code,
              "another verdict on a change than the reference's");
    }
  }

  void tell_once(std::uint32_t which, outcome what) {
    require(told_.at(which) == 0, "a change was told of twice");
    told_[which] = 1;
    verdicts_[which].what = what;
  }

  static void check_words(const change& what, const error& why) {
    require(why.range == what.at && why.what == (what.what == kind::map ? operation::map : operation::unmap),
            "a refusal of something else");
    require(!why.detail.empty(), "a refusal without a reason");
  }

  std::uint32_t group_of(std::uint32_t which) const {
    const auto number = changes_[which].transaction;
    while (number != 0 && which > 0 && changes_[which - 1].transaction == number) --which;
    return number == 0 ? 0 : which + 1;
  }

  /// Steps are about what their changes name, no more and no less, and as many as there have to be.
  void check_steps() {
    pieces_.assign(changes_.size(), 0);
    std::size_t further_pieces = 0;
    for (std::size_t i = 0; i < plan_.steps.size(); ++i) {
      const auto& step = plan_.steps[i];
      const auto served = plan_.served_by(step);
      require(!served.empty(), "a step that serves nobody");
      for (const auto which : served) {
        ++pieces_[which];
        require(group_of(which) == group_of(served.front()), "changes of two transactions in one step");
        require(!changes_[which].is_alone() || served.size() == 1, "an unmap that was to be alone is not");
      }
      const auto& first = changes_[served.front()];
      const bool follows = step.continues || (first.what == kind::unmap_everything && step.at.iova != 0);
      further_pieces += follows ? 1U : 0U;
      if (step.continues) check_cut(step, plan_.steps[i - 1]);
      if (first.what != kind::unmap_everything && !step.continues) check_range(i);
    }
    for (std::uint32_t i = 0; i < changes_.size(); ++i) check_pieces(i);
    const auto served = changes_.size() - plan_.settled.size() - plan_.refused.size();
    require(plan_.steps.size() <= served + further_pieces, "more ioctls than changes and pieces");
  }

  void check_pieces(std::uint32_t which) const {
    const auto& what = changes_[which];
    if (expected_->of(which).what != outcome::served)
      return require(pieces_[which] == 0, "a change served that was not to be");
    if (what.what == kind::map)
      return require(pieces_[which] == expected_->made_by(which).mappings, "not the pieces expected");
    if (what.what == kind::unmap) return require(pieces_[which] == 1, "an unmap in pieces");
    require(pieces_[which] == (where_.limits.can_unmap_all ? 1U : 2U), "everything, in pieces");
  }

  void check_cut(const plan_step& step, const plan_step& before) const {
    require(step.served == before.served && step.what == kind::map && last_of(before.at) + 1 == step.at.iova,
            "a piece that does not follow the one before it");
    const auto& whole = expected_->made_by(plan_.served_by(step).front());
    if (step.at.iova % (2ULL << 20) == address_of(step.host) % (2ULL << 20))
      require(step.at.iova % whole.piece == 0, "a cut inside a huge page");
    require(step.at.size <= whole.piece, "too large a piece");
  }

  /// The step at `index`, with the pieces that follow it, is its changes' ranges.
  void check_range(std::size_t index) const {
    iova_range at = plan_.steps[index].at;
    for (auto i = index + 1; i < plan_.steps.size() && plan_.steps[i].continues; ++i) at.size += plan_.steps[i].at.size;
    std::uint64_t size = 0;
    const auto served = plan_.served_by(plan_.steps[index]);
    for (const auto which : served) {
      require(changes_[which].what == plan_.steps[index].what, "a step of another kind than its change");
      require(covers(at, changes_[which].at), "a step that leaves out some of a change");
      size += changes_[which].at.size;
      const auto unit = changes_[which].unit;
      if (at.size != changes_[which].at.size && changes_[which].what == kind::map)
        require(unit != 0 && at.iova / unit == last_of(at) / unit, "a map merged across a unit's border");
    }
    const bool may_span = plan_.steps[index].what == kind::unmap && where_.limits.can_unmap_gaps;
    require(size == at.size || (may_span && size < at.size), "a step over what no change named");
  }

  /// Unmaps of neighbours in the book are one step. What is in between where they are not was seen to be there.
  void check_unmaps() const {
    const auto is_plain = [this](const plan_step& step) {
      const auto& first = changes_[plan_.served_by(step).front()];
      return first.what == kind::unmap && !first.is_alone();
    };
    for (std::size_t i = 0; i + 1 < plan_.steps.size() && is_plain(plan_.steps[i]) && is_plain(plan_.steps[i + 1]); ++i) {
      const auto& [a, b] = std::pair(plan_.steps[i], plan_.steps[i + 1]);
      const bool same = group_of(plan_.served_by(a).front()) == group_of(plan_.served_by(b).front());
      const bool all = a.at.iova == 0 && last_of(b.at) == ~0ULL;
      require(!same || all || last_of(a.at) + 1 != b.at.iova || b.at.iova == 0, "unmaps of neighbours were not joined");
      if (same && !all && where_.limits.can_unmap_gaps && only_unmaps_ && last_of(a.at) < b.at.iova)
        require(!book_.is_free({last_of(a.at) + 1, b.at.iova - last_of(a.at) - 1}) || last_of(a.at) + 1 == b.at.iova,
                "unmaps with nothing in between were not joined");
    }
  }

  /// Whether the batch is unmaps that have nothing to do with each other.
  bool has_only_unmaps() const {
    auto ranges = std::vector<iova_range>();
    for (const auto& one : changes_) {
      if (one.what != kind::unmap || one.at.size == 0 || last_of(one.at) < one.at.iova) return false;
      ranges.push_back(one.at);
    }
    std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.iova < b.iova; });
    return std::adjacent_find(ranges.begin(), ranges.end(), meet) == ranges.end();
  }

  bool names_all(const plan_step& step) const {
    std::uint64_t named = 0;
    for (const auto which : plan_.served_by(step)) named += changes_[which].at.size;
    return named == step.at.size;
  }

  /// No mapping goes that was not asked to.
  void check_gone(const plan_step& step) const {
    const auto served = plan_.served_by(step);
    if (step.what != kind::unmap || changes_[served.front()].what == kind::unmap_everything) return;
    for (const auto& [iova, what] : kernel_->mappings()) {
      const iova_range held{iova, what.size};
      const auto names = [&](std::uint32_t which) { return covers(changes_[which].at, held); };
      require(!meet(held, step.at) || std::any_of(served.begin(), served.end(), names), "an unmap of what no change named");
    }
  }

  void carry_out() {
    for (const auto& step : plan_.steps) {
      const bool is_half =
          step.what == kind::unmap && changes_[plan_.served_by(step).front()].what == kind::unmap_everything;
      check_gone(step);
      kernel_->carry_out(step, is_half, book_);
    }
  }

  /// What the kernel holds is, page by page, what the reference does, and may be unmapped where that may be.
  void check_mappings() const {
    std::vector<reference::cell> found(pages);
    std::size_t at_all = 0;
    for (const auto& [iova, what] : kernel_->mappings())
      for (std::uint64_t offset = 0; offset < what.size; offset += where_.page(), ++at_all)
        found.at((iova + offset - where_.base) / where_.page()) = {0, what.host + offset, what.writable};
    std::size_t expected = 0;
    for (std::size_t i = 0; i < pages; ++i) {
      const auto& cell = expected_->cells()[i];
      expected += cell.thing >= 0 ? 1U : 0U;
      require((cell.thing >= 0) == (found[i].thing >= 0), "mapped or not, unlike the reference");
      require(cell.thing < 0 || (cell.host == found[i].host && cell.writable == found[i].writable),
              "mapped to other memory");
    }
    require(at_all == expected, "mapped beyond what was asked for");
    require(book_.size() == kernel_->size(), "the book is not what the kernel holds");
    for (std::size_t i = 0; i + 1 < pages; ++i) {
      const auto &low = expected_->cells()[i], &high = expected_->cells()[i + 1];
      const bool one = low.thing >= 0 && low.thing == high.thing;
      require((book_.across(where_.page_at(i + 1).iova) != book_.end()) == one,
              "what is one is not what was asked for as one");
    }
  }

  void count() {
    ++counted_.plans;
    counted_.changes += changes_.size();
    counted_.steps += plan_.steps.size();
    counted_.settled += plan_.settled.size();
    for (const auto& [which, why] : plan_.refused) {
      ++counted_.refused[why.code.value()];
      counted_.taken_back += why.undone.empty() ? 0U : 1U;
    }
    bool mapped = false;
    for (const auto& step : plan_.steps) {
      const auto& first = changes_[plan_.served_by(step).front()];
      const bool everything = first.what == kind::unmap_everything;
      counted_.merged += step.what == kind::map && step.served_count > 1 ? 1U : 0U;
      counted_.joined += step.what == kind::unmap && step.served_count > 1 ? 1U : 0U;
      counted_.spanning += step.what == kind::unmap && step.served_count > 1 && !names_all(step) ? 1U : 0U;
      counted_.cut += step.continues ? 1U : 0U;
      counted_.enlarged += step.what == kind::map && step.at.size > where_.limits.piece_bytes ? 1U : 0U;
      counted_.everything += step.what == kind::unmap_everything ? 1U : 0U;
      counted_.halves += everything && step.at == iova_range{half, half} ? 1U : 0U;
      counted_.moved_halves += everything && step.at.iova != half && step.at.iova != 0 ? 1U : 0U;
      counted_.kept_in_order += mapped && step.what == kind::unmap && !everything ? 1U : 0U;
      counted_.whole_transactions += first.transaction != 0 ? 1U : 0U;
      counted_.at_the_end += step.at.size != 0 && last_of(step.at) == ~0ULL ? 1U : 0U;
      mapped = mapped || step.what == kind::map;
    }
  }

  std::mt19937_64 engine_;
  tally& counted_;
  ground where_;
  std::optional<reference> expected_;
  std::optional<strict_kernel> kernel_;
  mapping_book book_;
  plan plan_;
  std::vector<change> changes_;
  std::vector<verdict> verdicts_;
  std::vector<int> told_;
  std::vector<std::uint64_t> pieces_;  // steps, by change
  bool only_unmaps_ = false;
  int number_ = 0;
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t storms = 1'000;
#else
constexpr std::uint64_t storms = 40'000;
#endif
constexpr int batches_a_storm = 25;

}  // namespace

BOOST_AUTO_TEST_SUITE(planner_properties)

// covers R14, R19, R20, R21, R22
BOOST_AUTO_TEST_CASE(plans_do_what_the_changes_one_after_the_other_would) {
  tally counted;
  for (std::uint64_t seed = 1; seed <= storms; ++seed) {
    storm rages(seed, counted);
    try {
      rages.rage(batches_a_storm);
    } catch (const failure& what) {
      BOOST_FAIL(what.what() << ": storm " << seed << ", " << rages.describe());
    }
  }
  BOOST_TEST_MESSAGE(counted.plans << " plans, " << counted.changes << " changes, " << counted.steps << " steps");
  for (const auto& [code, times] : counted.refused) BOOST_TEST_MESSAGE("refused with " << code << ": " << times);
  BOOST_TEST_MESSAGE("settled " << counted.settled << ", merged " << counted.merged << ", cut " << counted.cut
                                << ", enlarged " << counted.enlarged << ", joined " << counted.joined << ", everything "
                                << counted.everything << ", halves " << counted.halves << ", moved halves "
                                << counted.moved_halves << ", in order " << counted.kept_in_order << ", in transactions "
                                << counted.whole_transactions << ", taken back " << counted.taken_back << ", at the end "
                                << counted.at_the_end << ", plain " << counted.plain << ", spanning " << counted.spanning);
  // Each of what there is to be seen was seen, and not by accident.
  for (const auto seen :
       {counted.settled, counted.merged, counted.cut, counted.enlarged, counted.joined, counted.everything, counted.halves,
        counted.moved_halves, counted.kept_in_order, counted.whole_transactions, counted.taken_back, counted.at_the_end,
        counted.plain, counted.spanning, counted.refused[EINVAL], counted.refused[EEXIST],
        counted.refused[static_cast<int>(errc::outside_window)], counted.refused[static_cast<int>(errc::no_mapping_left)]})
    BOOST_TEST(seen > storms / 100);
}

BOOST_AUTO_TEST_SUITE_END()
