// SPDX-License-Identifier: Apache-2.0

#include "dma/mapping_book.hpp"

#include <iterator>

namespace tidemark::dma {

void mapping_book::remove(iova_range range) {
  if (range.size == 0) return;
  const auto first = entries_.lower_bound(range.iova);
  auto after = first;
  while (after != entries_.end() && after->first - range.iova < range.size) ++after;  // most often one
  if (first == after) return;
  const auto next = entries_.erase(first, after);
  if (next != entries_.end()) next->second.set_continues(false);
}

mapping_book::const_iterator mapping_book::first_in(iova_range range) const {
  if (range.size == 0) return end();
  const auto after = entries_.lower_bound(range.iova);
  if (after != begin()) {
    const auto before = std::prev(after);
    if (range.iova - before->first < before->second.size()) return before;
  }
  return after != end() && after->first - range.iova < range.size ? after : end();
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

}  // namespace tidemark::dma
