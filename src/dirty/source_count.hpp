// SPDX-License-Identifier: Apache-2.0
//
// Passes on to the union what one source tells, and counts it. Threading: any thread.

#pragma once

#include <tidemark/dirty_source.hpp>
#include <tidemark/dirty_statistics.hpp>

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "dirty/dirty_union.hpp"

namespace tidemark::dirty {

class source_count final : public page_sink {
 public:
  explicit source_count(std::string_view name) : name_(name) {}

  /// Everything is told to it from now on, and nothing has been. Nobody tells anything meanwhile.
  void reset(dirty_union& to) noexcept {
    to_ = &to;
    told_ = 0;
    new_ = 0;
  }

  void merge(block_index block, std::uint64_t first_page, std::uint64_t pages,
             std::span<const std::uint64_t> bits) override {
    count(to_->merge(block, first_page, pages, bits));
  }
  void mark(page_run pages) override { count(to_->mark(pages)); }

  std::uint64_t new_pages() const noexcept { return new_; }
  dirty_source_statistics statistics() const { return {name_, told_, new_}; }

 private:
  void count(const dirty_union::told& what) noexcept {
    told_.fetch_add(what.told, std::memory_order_relaxed);
    new_.fetch_add(what.added, std::memory_order_relaxed);
  }

  const std::string name_;
  dirty_union* to_ = nullptr;
  std::atomic<std::uint64_t> told_ = 0;
  std::atomic<std::uint64_t> new_ = 0;
};

}  // namespace tidemark::dirty
