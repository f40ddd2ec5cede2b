// SPDX-License-Identifier: Apache-2.0
//
// What a plan is held to: its changes made one after the other, page by page, written to be obvious, and a kernel that
// refuses whatever type1 would refuse. Threading: values.

#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "dma/planner.hpp"

namespace tidemark::dma::planning {

using kind = change::kind;

constexpr std::size_t pages = 64;  // that changes are about; with pages of 2^58 bytes that is all there are
constexpr std::uint64_t half = 1ULL << 63;

inline std::byte* pointer_to(std::uint64_t address) { return std::bit_cast<std::byte*>(std::uintptr_t{address}); }
inline std::uint64_t address_of(const std::byte* pointer) { return std::bit_cast<std::uintptr_t>(pointer); }
inline std::uint64_t last_of(const iova_range& range) { return range.iova + (range.size - 1); }
inline bool covers(const iova_range& outer, const iova_range& inner) {
  return outer.iova <= inner.iova && last_of(outer) >= last_of(inner);
}
inline bool meet(const iova_range& a, const iova_range& b) { return a.iova <= last_of(b) && b.iova <= last_of(a); }

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

inline void require(bool holds, const char* what) {
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

}  // namespace tidemark::dma::planning
