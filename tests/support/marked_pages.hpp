// SPDX-License-Identifier: Apache-2.0
//
// A page_sink that remembers what it was told, a bit at a time. Threading: one thread.

#pragma once

#include <tidemark/dirty_source.hpp>

#include <cstdint>
#include <set>
#include <span>
#include <utility>

namespace tidemark::tests {

struct marked_pages final : page_sink {
  std::set<std::pair<block_index, std::uint64_t>> pages;

  void merge(block_index block, std::uint64_t first_page, std::uint64_t count,
             std::span<const std::uint64_t> bits) override {
    for (std::uint64_t i = 0; i < count; ++i)
      if ((bits[i / 64] >> (i % 64)) & 1) pages.emplace(block, first_page + i);
  }
  void mark(page_run run) override {
    for (std::uint64_t i = 0; i < run.pages; ++i) pages.emplace(run.block, run.first_page + i);
  }
};

}  // namespace tidemark::tests
