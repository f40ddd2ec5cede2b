// SPDX-License-Identifier: Apache-2.0
//
// When a migration will be over, were it to go on as it goes now. Pure functions; any thread.

#pragma once

#include <tidemark/migration.hpp>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace tidemark::cli {

struct forecast {
  enum class kind : std::uint8_t {
    unknown,   ///< nothing has arrived yet
    never,     ///< pages are dirtied as fast as they are sent
    at_least,  ///< in the first round, which does not know yet what is dirtied meanwhile
    about,
  };
  kind is = kind::unknown;
  std::chrono::nanoseconds left{};  ///< for at_least and about
};

/// Every round leaves what is dirtied while it is sent: a geometric series, to the round that fits the downtime target,
/// which is the last. `round_age` is for how long the round of the report has been under way.
forecast forecast_of(const migration_progress& now, std::chrono::nanoseconds round_age,
                     std::chrono::nanoseconds downtime_target);

/// "1.2 s", "2.1 s or more", "never at this rate", "-".
std::string words(const forecast& when);

/// The length of a blackout; nothing when a part of it has no end, as without bandwidth.
std::optional<std::chrono::nanoseconds> length_of(const blackout_parts& parts) noexcept;

}  // namespace tidemark::cli
