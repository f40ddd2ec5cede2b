// SPDX-License-Identifier: Apache-2.0
//
// Carries out the requests of one container's lane: what may be planned together, what has to wait for what, who gets a turn
// while a large map is pinned.
//
// Order: changes that follow each other are planned as one batch. A request that is about everything (connect, start of
// tracking, a transaction) waits for all before it, and all behind it wait for it. Between the pieces of a cut map requests
// on other ranges overtake it.
//
// Threading: one thread at a time, whoever is in the lane.

#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "backend/container_file.hpp"
#include "dma/container_request.hpp"
#include "dma/lane.hpp"
#include "dma/mapping_book.hpp"
#include "dma/plan_run.hpp"

namespace tidemark::dma {

class carrier {
 public:
  /// `piece_bytes`: the largest map made in one go, a power of two.
  carrier(kernel::files& kernel, container_options options, std::uint64_t piece_bytes);
  ~carrier();

  /// As lane::carry_out.
  bool turn(lane::batch& taken, lane::batch& done, const std::atomic<bool>& closing);

 private:
  /// Changes that are planned together, with the requests they belong to.
  struct work {
    explicit work(mapping_book& book, const std::function<void(const error&)>& warn) : run(book, warn) {}
    plan_run run;
    lane::batch requests{};
    std::span<const change> changes{};  // of all of them, in their order
    std::vector<change> copies{};       // where they stand if the requests are several
  };

  void carry_out(lane::batch& from, lane::batch& done, const std::atomic<bool>& closing);
  bool carry_out_alone(change_request& only);
  void gather(lane::batch& from, work& into);
  bool begin(work& which, const std::atomic<bool>& closing, lane::batch& done);
  void finish(work& which, lane::batch& done);
  void fail_all(work& which, const error& why, lane::batch& done);
  void call(container_request& which, const std::atomic<bool>& closing);
  bool is_large(const container_request& which) const;

  lane::batch overtaking();
  bool may_overtake(const container_request& which, const lane::batch& before) const;

  std::uint64_t piece_bytes() const noexcept { return info_.can_cut_maps ? piece_bytes_ : std::uint64_t{1} << 63; }
  plan_limits limits() const;
  void refuse_all(lane::batch& which, lane::batch& done);

  backend::container_file file_;
  mapping_book book_;
  std::vector<std::uint64_t> scratch_;  // of calls
  std::uint64_t piece_bytes_;
  std::uint64_t budget_ = 0;  // mappings the kernel allows, those in the book included
  container_info info_;
  unsigned info_reads_ = 0;
  work main_;     // may be under way, with a cut map
  work between_;  // what overtakes it
  bool under_way_ = false;
  lane::batch waiting_;  // behind what is under way, in their order
};

}  // namespace tidemark::dma
