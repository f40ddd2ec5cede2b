// SPDX-License-Identifier: Apache-2.0
//
// Figures as people read them, of at most three digits and with the unit that fits. Pure functions; any thread.

#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace tidemark::cli {

/// "1.25 GiB", "96.0 MiB", "0 B".
std::string human_bytes(std::uint64_t bytes);
/// "402 MiB/s".
std::string human_rate(std::uint64_t bytes_per_s);
/// "0 ms", "850 us", "2.5 ms", "38 ms", "2.31 s", "3 min 5 s", "2 h 10 min".
std::string human_time(std::chrono::nanoseconds time);
/// "38 %", "4.2 %", "< 0.1 %"; "-" of nothing.
std::string human_share(std::uint64_t part, std::uint64_t whole);

/// The same without digits that say nothing, for sentences and scales: "8 GiB", "1.5 s".
std::string short_bytes(std::uint64_t bytes);
std::string short_time(std::chrono::nanoseconds time);

double milliseconds(std::chrono::nanoseconds time) noexcept;

}  // namespace tidemark::cli
