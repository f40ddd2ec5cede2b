// SPDX-License-Identifier: Apache-2.0

#include <tidemark/dirty_log.hpp>

#include <algorithm>
#include <array>

#include "core/bitmap.hpp"

namespace tidemark {

namespace {

constexpr std::size_t words_at_once = 512;

}  // namespace

dirty_log::dirty_log(const std::vector<ram_block>& blocks) {
  blocks_.reserve(blocks.size());
  for (const auto& block : blocks)
    blocks_.push_back({block.pages(), std::make_unique<std::atomic<std::uint64_t>[]>(core::words_for(block.pages()))});
}

void dirty_log::record(block_index block, std::uint64_t first_page, std::uint64_t pages) noexcept {
  for (std::uint64_t page = first_page; page != first_page + pages; ++page)
    // Release: who harvests the bit sees the page's bytes.
    blocks_[block].bits[page / core::bits_per_word].fetch_or(std::uint64_t{1} << (page % core::bits_per_word),
                                                             std::memory_order_release);
}

result<void> dirty_log::harvest(page_sink& to) {
  for (block_index block = 0; block < blocks_.size(); ++block) harvest_block(block, to);
  return {};
}

void dirty_log::harvest_block(block_index block, page_sink& to) {
  auto& recorded = blocks_[block];
  std::array<std::uint64_t, words_at_once> taken;
  const auto words = core::words_for(recorded.pages);
  for (std::uint64_t first = 0; first < words; first += taken.size()) {
    const auto here = std::min<std::uint64_t>(taken.size(), words - first);
    std::uint64_t any = 0;
    for (std::uint64_t i = 0; i < here; ++i) {
      auto& word = recorded.bits[first + i];
      taken[i] = word.load(std::memory_order_relaxed) == 0 ? 0 : word.exchange(0, std::memory_order_acquire);
      any |= taken[i];
    }
    const auto first_page = first * core::bits_per_word;
    if (any != 0) to.merge(block, first_page, std::min(here * core::bits_per_word, recorded.pages - first_page), taken);
  }
}

}  // namespace tidemark
