// SPDX-License-Identifier: Apache-2.0
//
// The union of all that is known to be dirty: one bitmap a RAM block, whatever IOVA or source the bits came from.
//
// Invariant: a page that is discarded is not dirty, whoever says so.
//
// Threading: any thread, several at a time: sources race with each other and with who takes. A block's lock is held for a
// slice of its bitmap at a time, which is some ten microseconds; who has many slices lets those in that wait for one.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/page_run.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/bitmap.hpp"
#include "core/light_mutex.hpp"
#include "dirty/page_ranges.hpp"

namespace tidemark::dirty {

class dirty_union {
 public:
  /// What a source told: how many pages, and how many of them nobody had told before.
  using told = core::bitmap::merged;

  explicit dirty_union(const std::vector<ram_block>& blocks);

  /// Pages that are not here, for a source was told wrongly of a block, are nobody's.
  told merge(block_index block, std::uint64_t first_page, std::uint64_t pages, std::span<const std::uint64_t> bits);
  told mark(page_run pages);
  void discarded(page_run pages);
  told populated(page_run pages);
  void mark_everything();
  std::size_t blocks() const noexcept { return blocks_.size(); }
  std::uint64_t pages(block_index of) const noexcept { return blocks_[of]->dirty.size(); }
  /// What is discarded, too.
  void forget_everything();

  std::uint64_t dirty_pages() const noexcept;
  /// Of the bitmaps, both levels.
  std::uint64_t memory_bytes() const noexcept;

  struct position {
    block_index block = 0;
    std::uint64_t page = 0;
  };

  /// Takes up to `pages_max` dirty pages, in at most `into.size()` runs, from `where` on, in the order of blocks and pages,
  /// and moves `where` past them. None at the end.
  struct taken {
    std::size_t runs = 0;
    std::uint64_t pages = 0;
  };
  taken take(position& where, std::uint64_t pages_max, std::span<page_run> into);

  /// Takes the dirty pages of one chunk, the next that has any, as words; moves `where` past them. No pages: the end.
  struct taken_words {
    page_run range;  ///< what the words are for, a bit a page; begins at a multiple of 64
    std::uint64_t pages = 0;
  };
  taken_words take_words(position& where, std::span<std::uint64_t, core::words_per_chunk> into);

 private:
  struct block {
    explicit block(std::uint64_t pages) : dirty(pages) {}
    mutable core::light_mutex mutex;
    mutable std::atomic<int> waited_for = 0;  // by how many that have little to do
    core::bitmap dirty;
    page_ranges discarded;
  };

  block* find(block_index which) const noexcept { return which < blocks_.size() ? blocks_[which].get() : nullptr; }
  page_run within(page_run pages) const noexcept;
  class turn;
  template <class Work>
  void in_slices(block& in, page_run range, Work work) const;
  static void drop_discarded(block& in, std::uint64_t first_page, std::uint64_t pages, told& of);

  std::vector<std::unique_ptr<block>> blocks_;
};

}  // namespace tidemark::dirty
