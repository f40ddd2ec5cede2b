// SPDX-License-Identifier: Apache-2.0
//
// A record of the pages that a program's own threads wrote: the CPU source for those who have no kernel log of it.
//
// Threading: record() from any thread, at any time; harvest() from one.
// Order: record a page after writing it. A page written while it is sent is then recorded later, and sent again.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/dirty_source.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace tidemark {

class dirty_log final : public cpu_dirty_source {
 public:
  explicit dirty_log(const std::vector<ram_block>& blocks);

  void record(block_index block, std::uint64_t first_page, std::uint64_t pages) noexcept;
  std::string_view name() const noexcept override { return "program"; }
  result<void> harvest(page_sink& to) override;

 private:
  void harvest_block(block_index block, page_sink& to);

  struct record_of_block {
    std::uint64_t pages;
    std::unique_ptr<std::atomic<std::uint64_t>[]> bits;
  };
  std::vector<record_of_block> blocks_;
};

}  // namespace tidemark
