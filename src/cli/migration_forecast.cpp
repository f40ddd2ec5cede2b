// SPDX-License-Identifier: Apache-2.0

#include "cli/migration_forecast.hpp"

#include <algorithm>
#include <cmath>

#include "cli/human.hpp"
#include "cli/migration_rounds.hpp"

namespace tidemark::cli {
namespace {

double in_seconds(std::chrono::nanoseconds time) noexcept { return std::chrono::duration<double>(time).count(); }

/// Beyond a century nobody asks.
std::chrono::nanoseconds from_seconds(double s) noexcept {
  return std::chrono::nanoseconds(static_cast<std::int64_t>(std::clamp(s, 0.0, 3e9) * 1e9));
}

/// The time of rounds, the first of which takes `first_s` and each `ratio` of the one before, to the first that fits the
/// target.
double rounds_s(double first_s, double ratio, double target_s) noexcept {
  if (first_s <= target_s) return first_s;
  const double all = first_s / (1 - ratio);
  if (target_s <= 0 || ratio <= 0) return all;
  const double last = std::ceil(std::log(target_s / first_s) / std::log(ratio));
  return all * (1 - std::pow(ratio, last + 1));
}

}  // namespace

forecast forecast_of(const migration_progress& now, std::chrono::nanoseconds round_age,
                     std::chrono::nanoseconds downtime_target) {
  using enum forecast::kind;
  if (now.phase == migration_phase::connecting || now.bandwidth_bytes_per_s == 0) return {};
  const auto bandwidth = static_cast<double>(now.bandwidth_bytes_per_s);
  const double round_s = static_cast<double>(now.remaining_bytes) / bandwidth;
  if (is_paused(now.phase)) return {about, from_seconds(round_s)};
  if (now.round <= 1) return {at_least, from_seconds(round_s)};
  const double ratio = static_cast<double>(now.dirty_bytes_per_s) / bandwidth;
  const double next_s = (in_seconds(round_age) + round_s) * ratio;
  const double target_s = in_seconds(downtime_target);
  if (ratio >= 1 && next_s > target_s) return {never, {}};
  return {about, from_seconds(round_s + rounds_s(next_s, ratio, target_s))};
}

std::string words(const forecast& when) {
  switch (when.is) {
    case forecast::kind::unknown:
      return "-";
    case forecast::kind::never:
      return "never at this rate";
    case forecast::kind::at_least:
      return human_time(when.left) + " or more";
    case forecast::kind::about:
      return human_time(when.left);
  }
  return "-";
}

std::optional<std::chrono::nanoseconds> length_of(const blackout_parts& parts) noexcept {
  constexpr auto endless = std::chrono::nanoseconds::max() / 4;
  for (const auto part : {parts.pause, parts.sync, parts.send, parts.hand_over})
    if (part >= endless) return std::nullopt;
  return parts.total();
}

}  // namespace tidemark::cli
