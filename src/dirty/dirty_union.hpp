// SPDX-License-Identifier: Apache-2.0
//
// The union of all that is known to be dirty: one bitmap a RAM block, whatever IOVA or source the bits came from.
//
// Invariant: a page that is discarded is not dirty, whoever says so.
//
// Threading: the address space's executor.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/dirty_stream.hpp>

#include <vector>

#include "core/bitmap.hpp"

namespace tidemark::dirty {

class dirty_union final : public dirty_sink {
 public:
  explicit dirty_union(const std::vector<ram_block>& blocks);

  void merge(block_index block, std::uint64_t first_page, std::uint64_t pages, std::span<const std::uint64_t> bits) override;
  void mark_all(block_index block, std::uint64_t first_page, std::uint64_t pages) override;
  void discarded(block_index block, std::uint64_t first_page, std::uint64_t pages) override;
  void populated(block_index block, std::uint64_t first_page, std::uint64_t pages) override;
  void mark_everything();
  /// What is discarded, too.
  void forget_everything();

  std::uint64_t dirty_pages() const noexcept;

  /// Takes up to `pages_max` dirty pages from `where` on, in the order of blocks and pages, and moves `where` past them.
  /// Empty at the end.
  struct position {
    block_index block = 0;
    std::uint64_t page = 0;
  };
  std::vector<page_run> take(position& where, std::uint64_t pages_max);

 private:
  void drop_discarded(block_index block, std::uint64_t first_page, std::uint64_t pages);

  std::vector<core::bitmap> blocks_;
  std::vector<core::bitmap> discarded_;  // by block, too
};

}  // namespace tidemark::dirty
