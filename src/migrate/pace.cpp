// SPDX-License-Identifier: Apache-2.0

#include "migrate/pace.hpp"

#include <algorithm>

namespace tidemark::migrate {

namespace {

using namespace std::chrono_literals;

constexpr auto window = 1s;  ///< of sending, over which the bandwidth is the average
constexpr unsigned throttle_first_percent = 25;
constexpr unsigned throttle_step_percent = 15;
constexpr unsigned throttle_most_percent = 95;
/// A blackout that fits is made shorter by further rounds, while each halves what is left, down to this.
constexpr auto short_enough = 2ms;
constexpr std::uint32_t fitting_rounds_max = 8;

double seconds(std::chrono::nanoseconds time) noexcept { return std::chrono::duration<double>(time).count(); }

std::chrono::nanoseconds nanoseconds(double in_seconds) noexcept {
  constexpr double longest = 1e9;  // some thirty years: what cannot be sent is no overflow
  return std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(in_seconds, longest) * 1e9));
}

}  // namespace

void pace::round_came(std::uint32_t number, std::uint64_t dirty_bytes, time_point asked_at, time_point came_at) {
  sync_ = came_at - asked_at;
  if (number > 1 && asked_at > asked_at_) {
    const auto seen = static_cast<std::uint64_t>(static_cast<double>(dirty_bytes) / seconds(asked_at - asked_at_));
    // A short round says little, so two count.
    dirty_bytes_per_s_ = round_ > 1 ? (dirty_bytes_per_s_ + seen) / 2 : seen;
  }
  round_ = number;
  asked_at_ = asked_at;
  remaining_bytes_ = dirty_bytes;
}

void pace::arrived(std::uint64_t bytes, time_point now) {
  const auto took = std::max<duration>(now - counted_until_, 0ns);
  counted_until_ = now;
  samples_.push_back({took, bytes});
  sampled_ += took;
  sampled_bytes_ += bytes;
  while (samples_.size() > 1 && sampled_ - samples_.front().took > window) {
    sampled_ -= samples_.front().took;
    sampled_bytes_ -= samples_.front().bytes;
    samples_.pop_front();
  }
}

void pace::touched(duration took) noexcept { round_trip_ = round_trip_ == 0ns ? took : (round_trip_ + took) / 2; }

std::uint64_t pace::bandwidth_bytes_per_s() const noexcept {
  return sampled_ <= 0ns ? 0 : static_cast<std::uint64_t>(static_cast<double>(sampled_bytes_) / seconds(sampled_));
}

double pace::seconds_for(std::uint64_t bytes) const noexcept {
  const auto rate = bandwidth_bytes_per_s();
  if (bytes == 0) return 0;
  return rate == 0 ? 1e9 : static_cast<double>(bytes) / static_cast<double>(rate);
}

blackout_parts pace::predict(std::uint64_t remaining_bytes, std::uint64_t device_bytes) const noexcept {
  const auto meanwhile = static_cast<std::uint64_t>(static_cast<double>(dirty_bytes_per_s_) * seconds(sync_));
  blackout_parts parts;
  parts.sync = sync_;
  parts.send = nanoseconds(seconds_for(remaining_bytes + meanwhile + device_bytes)) + round_trip_;
  parts.hand_over = 2 * round_trip_;
  return parts;
}

double pace::next_bytes(std::uint64_t remaining_bytes) const noexcept {
  return static_cast<double>(dirty_bytes_per_s_) * (seconds_for(remaining_bytes) + seconds(round_trip_) + seconds(sync_));
}

bool pace::should_switch(std::uint64_t remaining_bytes, std::uint64_t device_bytes) {
  if (round_ <= 1) return false;
  if (remaining_bytes == 0 || round_ > options_.rounds_max) return true;
  const auto parts = predict(remaining_bytes, device_bytes);
  if (parts.total() > options_.downtime_target) return false;
  const bool pays = next_bytes(remaining_bytes) < static_cast<double>(remaining_bytes) / 2 && parts.send > short_enough;
  return !pays || ++fitting_rounds_ > fitting_rounds_max;
}

unsigned pace::throttle_percent() noexcept {
  if (round_ <= 2) return throttle_percent_;
  const bool losing = next_bytes(remaining_bytes_) > 0.9 * static_cast<double>(remaining_bytes_);
  losing_rounds_ = losing ? losing_rounds_ + 1 : 0;
  if (losing_rounds_ < 2) return throttle_percent_;
  losing_rounds_ = 0;
  throttle_percent_ = throttle_percent_ == 0 ? throttle_first_percent
                                             : std::min(throttle_percent_ + throttle_step_percent, throttle_most_percent);
  return throttle_percent_;
}

}  // namespace tidemark::migrate
