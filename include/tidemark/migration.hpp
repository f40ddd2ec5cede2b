// SPDX-License-Identifier: Apache-2.0
//
// The values of a migration: what is asked for, how far it is, what came out; and what a VMM must be able to do for one.
//
// Threading: values. `guest` is called on the executor of the side it belongs to.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/error.hpp>
#include <tidemark/operation.hpp>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace tidemark {

struct migration_options {
  std::chrono::milliseconds downtime_target{
      300};                                 ///< switchover when what is left is sent within this at the measured bandwidth
  std::uint64_t bandwidth_bytes_per_s = 0;  ///< 0: unlimited
  std::uint32_t rounds_max = 30;            ///< after so many rounds of pre-copy the switchover is made whatever is left
  bool compare = true;  ///< compare a checksum of every RAM block after the switchover: for guests that stay still
                        ///< at the destination until the migration has completed, as in tests and the demo
};

struct migration_progress {
  std::uint32_t round = 0;
  std::uint64_t sent_bytes = 0;             ///< of pages, all rounds
  std::uint64_t remaining_bytes = 0;        ///< known to be dirty and not sent
  std::uint64_t total_bytes = 0;            ///< of all RAM blocks
  std::uint64_t dirty_bytes_per_s = 0;      ///< dirtied between the last two rounds; 0 in the first
  std::uint64_t bandwidth_bytes_per_s = 0;  ///< measured
  std::chrono::nanoseconds elapsed{};
  std::chrono::nanoseconds predicted_blackout{};  ///< remaining at the measured bandwidth
  bool paused = false;                            ///< in the blackout
};

struct migration_summary {
  std::uint32_t rounds = 0;  ///< of pre-copy; the stop-and-copy comes on top
  std::uint64_t sent_bytes = 0;
  std::uint64_t stop_and_copy_bytes = 0;
  std::chrono::nanoseconds total{};
  std::chrono::nanoseconds predicted_blackout{};  ///< at the moment of the decision
  std::chrono::nanoseconds blackout{};            ///< from asking the guest to pause until the destination said that it runs
  bool compared = false;                          ///< every RAM block was compared and found identical
};

/// What the VMM does for a migration. Each call completes `done` when it is so, never inside the call.
class guest {
 public:
  virtual ~guest() = default;
  /// No CPU and no device of the guest writes memory from the completion on.
  virtual void start_pause(completion<void> done) = 0;
  /// The guest runs: at the source after a failed migration, at the destination after a good one.
  virtual void start_resume(completion<void> done) = 0;
};

/// What the source tells about a RAM block before anything is sent.
struct block_description {
  std::string name;
  std::uint64_t size = 0;  ///< bytes
};

}  // namespace tidemark
