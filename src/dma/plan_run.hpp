// SPDX-License-Identifier: Apache-2.0
//
// Carries out a plan on an IOMMU driver, and keeps the book true whatever the kernel answers. The plan assumes that every
// step works; what is done where one does not:
//
//  - A merged map that fails is made change by change, so that each has its own answer.
//  - A piece of a cut map that fails takes back the pieces before it.
//  - A map that meets a mapping nobody knows of (EEXIST, EBUSY of old kernels) unmaps just that range and is made once more
//    (R15). Known ones the plan has refused already.
//  - An unmap to the end of the address space that old kernels refuse is made without the last page (R16).
//  - An unmap of several mappings that fails, or that unmapped not as much as the book says, may have done a part of it:
//    each is unmapped by itself, which tells what is true (R18). Its dirty pages are lost then: all count as dirty (R26).
//  - A transaction of which one change fails is taken back, last step first (R22). So it must not unmap what has no host
//    address now (R24): that could not be mapped again.
//
// Threading: one thread at a time.

#pragma once

#include <tidemark/error.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "backend/iommu.hpp"
#include "dma/mapping_book.hpp"
#include "dma/planner.hpp"

namespace tidemark::dma {

/// How a change ended.
struct change_outcome {
  std::unique_ptr<error> failure;  ///< null: it succeeded
  std::uint64_t bytes = 0;         ///< of an unmap: what was unmapped
  std::uint64_t cancelled = 0;     ///< of an unmap: and what would have been mapped, had it not come

  void reset() noexcept {
    failure.reset();
    bytes = cancelled = 0;
  }
};

class plan_run {
 public:
  plan_run(mapping_book& book, std::function<void(const error&)> warn) : book_(book), warn_(std::move(warn)) {}

  /// Plans the changes, which stay where they are until the run has ended.
  void begin(std::span<const change> changes, const plan_limits& limits);

  /// Carries on; true while something is left, which is so only between the pieces of a cut map. Once `closing` is true what
  /// is not done fails as aborted, and a cut map's pieces are taken back.
  bool advance(backend::iommu& driver, const std::atomic<bool>& closing);

  /// Carries out a change alone, planned by who calls as the first of a plan. What came of it is valid until the next
  /// change.
  change_outcome& carry_out(const change& only, const plan_step& planned, std::uint64_t page_size, backend::iommu& driver);

  /// Of each change; valid when advance() answered false.
  std::vector<change_outcome>& outcomes() noexcept { return outcomes_; }

  /// Steps that are still to be made.
  std::size_t left() const noexcept { return plan_.steps.size() - next_; }

 private:
  using entry = std::pair<std::uint64_t, held_mapping>;  // by IOVA

  /// What a transaction has done, to take it back.
  struct deed {
    std::uint32_t transaction;
    iova_range mapped;            ///< or empty:
    std::vector<entry> unmapped;  ///< these were
  };
  /// A mapping that the kernel would not unmap.
  struct leftover {
    iova_range at;
    error why;
  };

  void start(std::span<const change> changes, std::uint64_t page_size);
  void answer_settled();
  void abandon(backend::iommu& driver);
  bool is_dead(const plan_step& step) const;

  void map(const plan_step& step, backend::iommu& driver);
  result<void> map_range(const plan_step& step, backend::iommu& driver);
  void map_one_by_one(const plan_step& step, backend::iommu& driver);
  result<void> take_back_pieces(const plan_step& failed, backend::iommu& driver);
  void skip_pieces();

  std::uint64_t expect(const plan_step& step);
  void unmap(const plan_step& step, backend::iommu& driver);
  std::unique_ptr<error> cannot_be_taken_back(std::uint32_t transaction);
  result<std::uint64_t> unmap_range(const plan_step& step, std::span<std::uint64_t> dirty, backend::iommu& driver);
  result<std::uint64_t> unmap_in_slices(iova_range range, std::span<std::uint64_t> dirty, backend::iommu& driver);
  void unmap_one_by_one(const plan_step& step, backend::iommu& driver);
  std::vector<leftover> unmap_each(iova_range range, backend::iommu& driver);
  std::vector<entry> entries_in(iova_range range) const;
  std::uint64_t bytes_in(iova_range range) const;

  void fail(std::uint32_t which, error why, backend::iommu& driver);
  std::string take_back(std::uint32_t transaction, backend::iommu& driver);
  result<void> take_back(const deed& done, backend::iommu& driver);
  void note(std::uint32_t transaction, iova_range mapped);
  void warn(const error& what) const {
    if (warn_) warn_(what);
  }

  mapping_book& book_;
  std::function<void(const error&)> warn_;
  std::span<const change> changes_;
  std::vector<change_outcome> outcomes_;
  std::vector<deed> deeds_;
  std::uint32_t looked_through_ = 0;  // the transaction whose steps were, last
  std::uint64_t page_size_ = 4096;
  plan plan_;
  std::size_t next_ = 0;
};

}  // namespace tidemark::dma
