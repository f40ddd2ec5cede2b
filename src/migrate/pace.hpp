// SPDX-License-Identifier: Apache-2.0
//
// How fast pages arrive and are dirtied, what the blackout would be, and what follows: another round, the switchover, or a
// slower guest. Pure: it is told what happened when.

#pragma once

#include <tidemark/migration.hpp>

#include <chrono>
#include <cstdint>
#include <deque>

namespace tidemark::migrate {

class pace {
 public:
  using time_point = std::chrono::steady_clock::time_point;
  using duration = std::chrono::nanoseconds;

  explicit pace(const migration_options& options) : options_(options) {}

  /// A round was asked for and came; this much is dirty. The first is everything, which is no rate.
  void round_came(std::uint32_t number, std::uint64_t dirty_bytes, time_point asked_at, time_point came_at);
  /// Pages are being sent from here on.
  void sending_began(time_point now) noexcept { counted_until_ = now; }
  void arrived(std::uint64_t bytes, time_point now);
  /// A frame of nothing, there and back.
  void touched(duration took) noexcept;

  std::uint64_t bandwidth_bytes_per_s() const noexcept;
  std::uint64_t dirty_bytes_per_s() const noexcept { return dirty_bytes_per_s_; }

  /// The blackout, were the guest paused now with so much dirty, and so much of devices' state to come.
  blackout_parts predict(std::uint64_t remaining_bytes, std::uint64_t device_bytes) const noexcept;

  /// After round_came(): whether the guest is to be paused now.
  bool should_switch(std::uint64_t remaining_bytes, std::uint64_t device_bytes);
  /// After round_came(), when it is not: by how much the guest is to be slowed down, as it dirties pages faster than they
  /// can be sent.
  unsigned throttle_percent() noexcept;

 private:
  struct sample {
    duration took;
    std::uint64_t bytes;
  };

  double seconds_for(std::uint64_t bytes) const noexcept;
  /// What would be dirty after one more round.
  double next_bytes(std::uint64_t remaining_bytes) const noexcept;

  const migration_options options_;
  std::deque<sample> samples_;
  duration sampled_{};
  std::uint64_t sampled_bytes_ = 0;
  time_point counted_until_{};
  time_point asked_at_{};
  duration sync_{};
  duration round_trip_{};
  std::uint32_t round_ = 0;
  std::uint32_t fitting_rounds_ = 0;
  std::uint32_t losing_rounds_ = 0;
  std::uint64_t remaining_bytes_ = 0;
  std::uint64_t dirty_bytes_per_s_ = 0;
  unsigned throttle_percent_ = 0;
};

}  // namespace tidemark::migrate
