// SPDX-License-Identifier: Apache-2.0

#include <tidemark/dirty_log.hpp>

#include "core/bitmap.hpp"

namespace tidemark {

dirty_log::dirty_log(const std::vector<ram_block>& blocks) {
  blocks_.reserve(blocks.size());
  for (const auto& block : blocks)
    blocks_.push_back(std::make_unique<std::atomic<std::uint64_t>[]>(core::words_for(block.pages())));
}

void dirty_log::record(block_index block, std::uint64_t first_page, std::uint64_t pages) noexcept {
  for (std::uint64_t page = first_page; page != first_page + pages; ++page)
    // Release: who harvests the bit sees the page's bytes.
    blocks_[block][page / core::bits_per_word].fetch_or(std::uint64_t{1} << (page % core::bits_per_word),
                                                        std::memory_order_release);
}

void dirty_log::harvest(block_index block, std::span<std::uint64_t> bits) {
  for (std::size_t word = 0; word < bits.size(); ++word) {
    auto& recorded = blocks_[block][word];
    if (recorded.load(std::memory_order_relaxed) != 0) bits[word] |= recorded.exchange(0, std::memory_order_acquire);
  }
}

}  // namespace tidemark
