// SPDX-License-Identifier: Apache-2.0

#include "dirty/dirty_union.hpp"

namespace tidemark::dirty {

dirty_union::dirty_union(const std::vector<ram_block>& blocks) {
  blocks_.reserve(blocks.size());
  for (const auto& block : blocks) blocks_.emplace_back(block.pages());
}

void dirty_union::merge(block_index block, std::uint64_t first_page, std::uint64_t pages,
                        std::span<const std::uint64_t> bits) {
  blocks_[block].merge(first_page, pages, bits);
}

void dirty_union::mark_all(block_index block, std::uint64_t first_page, std::uint64_t pages) {
  blocks_[block].set(first_page, pages);
}

void dirty_union::mark_everything() {
  for (auto& block : blocks_) block.set(0, block.size());
}

void dirty_union::forget_everything() {
  for (auto& block : blocks_) block.clear(0, block.size());
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
