// SPDX-License-Identifier: Apache-2.0
//
// Rounds of the soak's stream: begun, and pulled to their end by consumers. Threading: the executor's.

#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "soak_guest.hpp"

namespace tidemark::bench {

/// Two consumers, who send pages to the copy, drop some batches, and keep some of those for a while.
class soak_consumers {
 public:
  soak_consumers(soak_guest& guest, std::uint64_t seed) : guest_(guest), random_(seed) {}

  /// A round. `all_of_it`: nothing is dropped or kept, so that everything has reached the copy.
  ring::task<result<void>> round(bool all_of_it);

 private:
  ring::task<> consume(bool all_of_it, ring::latch& ended, result<void>& outcome);
  ring::task<result<bool>> take_runs(bool all_of_it);
  ring::task<result<bool>> take_bitmap(bool all_of_it);
  template <class Batch>
  ring::task<> send(Batch batch, bool all_of_it);

  soak_guest& guest_;
  choices random_;
  std::vector<dirty_stream::batch> kept_;
  std::vector<dirty_stream::bitmap_batch> kept_bitmaps_;
};

/// A round of which every page is told to `each`, and acknowledged.
ring::task<result<void>> pull_round(soak_guest& guest, std::function<void(page_run)> each);

}  // namespace tidemark::bench
