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
#include <string_view>
#include <vector>

namespace tidemark {

/// How pages are packed on their way.
enum class compression : std::uint8_t {
  automatic,  ///< each channel measures whether lz4 or zstd pays there, again and again while it runs
  none,
  lz4,
  zstd,
};

struct migration_options {
  std::chrono::milliseconds downtime_target{300};  ///< switchover when the predicted blackout is within this
  std::uint64_t bandwidth_bytes_per_s = 0;         ///< of all channels together, on the wire; 0: unlimited
  std::uint32_t rounds_max = 30;  ///< after so many rounds of pre-copy the switchover is made whatever is left
  compression pages = compression::automatic;
  bool throttle = true;  ///< ask the guest to slow its CPUs down when it dirties pages faster than they can be sent
  /// A connection that breaks is made anew within this, and the migration goes on from what had arrived. 0: it ends.
  std::chrono::milliseconds recovery_window{10'000};
  bool compare = false;  ///< compare a checksum of every RAM block after the switchover: for guests that stay still at the
                         ///< destination until the migration has completed, as in tests and the demo
};

enum class migration_phase : std::uint8_t {
  connecting,
  pre_copy,
  held,           ///< the migration, not the guest, is paused: by hold()
  recovering,     ///< a connection broke and is being made anew
  stop_and_copy,  ///< the guest is paused
  handed_over,    ///< the destination was told to run it
};

/// "connecting", "pre-copy", "held", "recovering", "stop-and-copy", "handed-over"
std::string_view name_of(migration_phase phase) noexcept;

/// What the blackout consists of.
struct blackout_parts {
  std::chrono::nanoseconds pause{};      ///< until the guest and its devices stand still
  std::chrono::nanoseconds sync{};       ///< to take in what was dirtied last
  std::chrono::nanoseconds send{};       ///< the rest of the pages and the devices' state, until they are in place
  std::chrono::nanoseconds hand_over{};  ///< until the destination runs the guest

  std::chrono::nanoseconds total() const noexcept { return pause + sync + send + hand_over; }
};

struct migration_progress {
  migration_phase phase = migration_phase::connecting;
  std::uint32_t round = 0;                  ///< of pre-copy, from 1; the stop-and-copy counts as one more
  std::uint64_t total_bytes = 0;            ///< of all RAM blocks
  std::uint64_t remaining_bytes = 0;        ///< known to be dirty, and not known to have arrived
  std::uint64_t sent_bytes = 0;             ///< of pages that arrived, all rounds
  std::uint64_t zero_bytes = 0;             ///< of these, of pages that were zero
  std::uint64_t repeated_bytes = 0;         ///< of these, of pages that were the same as another
  std::uint64_t wire_bytes = 0;             ///< that went over the wire for all of it
  std::uint64_t device_bytes = 0;           ///< of devices' state
  std::uint64_t dirty_bytes_per_s = 0;      ///< dirtied between the last two rounds; 0 in the first
  std::uint64_t bandwidth_bytes_per_s = 0;  ///< pages that arrive in a second, measured
  unsigned throttle_percent = 0;            ///< how much the guest was asked to slow down
  unsigned recoveries = 0;                  ///< connections that broke and were made anew
  std::chrono::nanoseconds elapsed{};
  blackout_parts predicted;  ///< the blackout, were the guest paused now
};

struct migration_summary {
  std::uint32_t rounds = 0;  ///< of pre-copy; the stop-and-copy comes on top
  unsigned channels = 0;
  std::uint64_t total_bytes = 0;
  std::uint64_t sent_bytes = 0;
  std::uint64_t zero_bytes = 0;
  std::uint64_t repeated_bytes = 0;
  std::uint64_t wire_bytes = 0;
  std::uint64_t device_bytes = 0;
  std::uint64_t stop_and_copy_bytes = 0;
  unsigned recoveries = 0;
  std::chrono::nanoseconds total{};  ///< until the destination said that it runs
  blackout_parts predicted;          ///< at the moment of the decision
  blackout_parts blackout;           ///< from asking the guest to pause until the destination said that it runs
  bool compared = false;             ///< every RAM block was compared and found identical
};

/// What the VMM does for a migration. Each call completes `done` when it is so, never inside the call.
class guest {
 public:
  virtual ~guest() = default;
  /// No CPU of the guest writes memory from the completion on. (Its devices are stopped by the migration, where they can
  /// migrate; what cannot is stopped here.)
  virtual void start_pause(completion<void> done) = 0;
  /// The guest runs: at the source after a failed migration, at the destination after a good one.
  virtual void start_resume(completion<void> done) = 0;
  /// Whether start_throttle() works.
  virtual bool can_throttle() const noexcept { return false; }
  /// The CPUs run at most (100 - percent) % of the time from the completion on; 0: as they like. Asked for only while the
  /// guest runs at the source, and taken back when it goes on there. Called only if can_throttle().
  virtual void start_throttle(unsigned /*percent*/, completion<void> /*done*/) {}
};

/// What the source tells about a RAM block before anything is sent.
struct block_description {
  std::string name;
  std::uint64_t size = 0;  ///< bytes
  int memory_file = -1;    ///< that is its memory, from offset 0, when it is handed over (fd:): to be mapped shared, or
                           ///< duplicated, before the call that is given this returns
};

}  // namespace tidemark
