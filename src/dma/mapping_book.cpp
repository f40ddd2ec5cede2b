// SPDX-License-Identifier: Apache-2.0

#include "dma/mapping_book.hpp"

#include <algorithm>
#include <utility>

namespace tidemark::dma {

// ---- A leaf ----

/// How many entries begin before `iova`. Its steps are multiplied, for no processor foretells them.
std::uint32_t mapping_book::leaf::count_before(std::uint64_t iova) const noexcept {
  if (count == 0 || iovas[count - 1] < iova) return count;  // whoever adds goes upwards, more often than not
  const auto* base = iovas.data();
  auto left = count;
  while (left > 1) {
    const auto step = left / 2;
    base += step * static_cast<std::uint32_t>(base[step - 1] < iova);
    left -= step;
  }
  return static_cast<std::uint32_t>(base - iovas.data());
}

void mapping_book::leaf::insert(std::uint32_t at, std::uint64_t iova, const held_mapping& what) noexcept {
  std::copy_backward(iovas.begin() + at, iovas.begin() + count, iovas.begin() + count + 1);
  std::copy_backward(held.begin() + at, held.begin() + count, held.begin() + count + 1);
  iovas[at] = iova;
  held[at] = what;
  ++count;
}

void mapping_book::leaf::erase(std::uint32_t from, std::uint32_t to) noexcept {
  std::copy(iovas.begin() + to, iovas.begin() + count, iovas.begin() + from);
  std::copy(held.begin() + to, held.begin() + count, held.begin() + from);
  count -= to - from;
}

/// Appends what another one holds from a place on; there is room for it.
void mapping_book::leaf::take_from(leaf& other, std::uint32_t from) noexcept {
  std::copy(other.iovas.begin() + from, other.iovas.begin() + other.count, iovas.begin() + count);
  std::copy(other.held.begin() + from, other.held.begin() + other.count, held.begin() + count);
  count += other.count - from;
  other.count = from;
}

// ---- Changes ----

void mapping_book::add(std::uint64_t iova, const held_mapping& what) {
  auto in = leaf_of(iova);
  const auto count = in->second->count;
  const bool goes_on = count >= leaf_full && in->second->iovas[count - 1] < iova && std::next(in) == leaves_.end();
  if (goes_on) {
    in = leaves_.emplace_hint(leaves_.end(), iova, std::make_unique<leaf>());
  } else if (count == leaf_max) {
    in = split(in, iova);
  }
  in->second->insert(in->second->count_before(iova), iova, what);
  ++size_;
}

/// The half that `iova` belongs to.
mapping_book::leaves::iterator mapping_book::split(leaves::iterator full, std::uint64_t iova) {
  auto upper = std::make_unique<leaf>();
  upper->take_from(*full->second, leaf_max / 2);
  const auto border = upper->iovas[0];
  const auto made = leaves_.emplace(border, std::move(upper)).first;
  return iova < border ? std::prev(made) : made;
}

void mapping_book::remove(iova_range range) {
  if (range.size == 0) return;
  const auto before = size_;
  const auto last = range.iova + (range.size - 1);
  auto in = leaf_of(range.iova);
  auto from = in->second->count_before(range.iova);
  for (;;) {
    auto& here = *in->second;
    auto to = from;
    while (to != here.count && here.iovas[to] <= last) ++to;  // most often one
    here.erase(from, to);
    size_ -= to - from;
    if (from != here.count) break;  // what is left there is behind the range
    in = here.count == 0 && leaves_.size() > 1 ? erase_leaf(in) : std::next(in);
    from = 0;
    if (in == leaves_.end()) break;
  }
  if (size_ == before) return;
  if (in != leaves_.end()) in->second->held[from].set_continues(false);
  // What lost entries is this leaf, or the one before it if the range reached to its end.
  const auto shrunk = from == 0 && in != leaves_.begin() ? std::prev(in) : in;
  if (shrunk->second->count < leaf_few) close_up(shrunk);
}

/// What is behind it now: in its place, if it was the first.
mapping_book::leaves::iterator mapping_book::erase_leaf(leaves::iterator empty) {
  if (empty != leaves_.begin()) return leaves_.erase(empty);
  const auto next = std::next(empty);
  empty->second = std::move(next->second);
  leaves_.erase(next);
  return leaves_.begin();
}

void mapping_book::close_up(leaves::iterator few) {
  if (few != leaves_.begin() && join_with_next(std::prev(few))) return;
  join_with_next(few);
}

bool mapping_book::join_with_next(leaves::iterator which) {
  const auto next = std::next(which);
  if (next == leaves_.end() || which->second->count + next->second->count > leaf_full) return false;
  which->second->take_from(*next->second, 0);
  leaves_.erase(next);
  return true;
}

void mapping_book::clear() {
  leaves_.clear();
  leaves_.emplace(0, std::make_unique<leaf>());
  size_ = 0;
  may_be_released_ = false;
}

// ---- Questions ----

mapping_book::const_iterator mapping_book::lower_bound(std::uint64_t iova) const {
  const auto in = leaf_of(iova);
  const auto at = in->second->count_before(iova);
  return at != in->second->count ? const_iterator(in, at) : const_iterator(std::next(in), 0);
}

mapping_book::const_iterator mapping_book::find(std::uint64_t iova) const {
  const auto in = leaf_of(iova);
  const auto& here = *in->second;
  const auto at = here.count_before(iova);
  return at != here.count && here.iovas[at] == iova ? const_iterator(in, at) : end();
}

mapping_book::const_iterator mapping_book::first_in(iova_range range) const {
  if (range.size == 0) return end();
  const auto after = lower_bound(range.iova);
  if (after != begin()) {
    const auto before = std::prev(after);
    if (range.iova - before->first < before->second.size()) return before;
  }
  return after != end() && after->first - range.iova < range.size ? after : end();
}

std::optional<std::uint64_t> mapping_book::last_free(std::uint64_t from) const {
  const auto after = lower_bound(from);
  if (after != begin()) {
    const auto before = std::prev(after);
    if (from - before->first < before->second.size()) return std::nullopt;
  }
  if (after == end()) return ~std::uint64_t{0};
  return after->first != from ? std::optional(after->first - 1) : std::nullopt;
}

mapping_book::const_iterator mapping_book::across(std::uint64_t boundary) const {
  const auto found = first_in({boundary, 1});
  if (found == end()) return found;
  return found->first < boundary || found->second.continues() ? found : end();
}

bool mapping_book::cuts(iova_range range) const {
  if (range.size == 0) return false;
  const auto past = range.iova + range.size;  // 0 when the range ends with the address space, where nothing goes on
  return across(range.iova) != end() || (past != 0 && across(past) != end());
}

void mapping_book::prefetch(std::uint64_t iova) const {
  constexpr std::size_t line_bytes = 64;
  const auto* const begin = reinterpret_cast<const std::byte*>(leaf_of(iova)->second.get());
  for (std::size_t at = 0; at < sizeof(leaf); at += line_bytes) __builtin_prefetch(begin + at);
}

}  // namespace tidemark::dma
