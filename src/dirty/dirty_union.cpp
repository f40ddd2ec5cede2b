// SPDX-License-Identifier: Apache-2.0

#include "dirty/dirty_union.hpp"

#include <algorithm>

namespace tidemark::dirty {

dirty_union::dirty_union(const std::vector<ram_block>& blocks) {
  blocks_.reserve(blocks.size());
  for (const auto& block : blocks) blocks_.emplace_back(block.pages());
  discarded_ = blocks_;
}

void dirty_union::merge(block_index block, std::uint64_t first_page, std::uint64_t pages,
                        std::span<const std::uint64_t> bits) {
  blocks_[block].merge(first_page, pages, bits);
  drop_discarded(block, first_page, pages);
}

void dirty_union::mark_all(block_index block, std::uint64_t first_page, std::uint64_t pages) {
  blocks_[block].set(first_page, pages);
  drop_discarded(block, first_page, pages);
}

void dirty_union::discarded(block_index block, std::uint64_t first_page, std::uint64_t pages) {
  discarded_[block].set(first_page, pages);
  blocks_[block].clear(first_page, pages);
}

void dirty_union::populated(block_index block, std::uint64_t first_page, std::uint64_t pages) {
  discarded_[block].clear(first_page, pages);
  blocks_[block].set(first_page, pages);
}

void dirty_union::drop_discarded(block_index block, std::uint64_t first_page, std::uint64_t pages) {
  const auto& gone = discarded_[block];
  if (gone.count() == 0) return;
  const auto end = first_page + pages;
  for (auto from = first_page; from < end;) {
    const auto run = gone.next_run(from, end - from);
    if (run.length == 0 || run.first >= end) return;
    blocks_[block].clear(run.first, std::min(run.length, end - run.first));
    from = run.first + run.length;
  }
}

void dirty_union::mark_everything() {
  for (block_index block = 0; block < blocks_.size(); ++block) mark_all(block, 0, blocks_[block].size());
}

void dirty_union::forget_everything() {
  for (auto& block : blocks_) block.clear(0, block.size());
  for (auto& block : discarded_) block.clear(0, block.size());
}

std::uint64_t dirty_union::dirty_pages() const noexcept {
  std::uint64_t sum = 0;
  for (const auto& block : blocks_) sum += block.count();
  return sum;
}

std::vector<page_run> dirty_union::take(position& where, std::uint64_t pages_max) {
  std::vector<page_run> runs;
  for (; where.block < blocks_.size(); ++where.block, where.page = 0) {
    auto& pages = blocks_[where.block];
    while (pages_max != 0) {
      const auto found = pages.next_run(where.page, pages_max);
      if (found.length == 0) break;
      pages.clear(found.first, found.length);
      runs.push_back({where.block, found.first, found.length});
      where.page = found.first + found.length;
      pages_max -= found.length;
    }
    if (pages_max == 0) break;
  }
  return runs;
}

}  // namespace tidemark::dirty
