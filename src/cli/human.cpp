// SPDX-License-Identifier: Apache-2.0

#include "cli/human.hpp"

#include <array>

#include "core/formatted.hpp"

namespace tidemark::cli {
namespace {

/// "1.50 GiB" becomes "1.5 GiB", "8.00 GiB" becomes "8 GiB"; "100 GiB" stays.
std::string without_idle_digits(std::string text) {
  const auto point = text.find('.');
  if (point == std::string::npos) return text;
  const auto end = text.find(' ', point);
  const auto last = text.find_last_not_of('0', end - 1);
  return text.erase(last == point ? point : last + 1, end - (last == point ? point : last + 1));
}

std::string long_time(double seconds) {
  const auto whole_s = static_cast<std::uint64_t>(seconds + 0.5);
  const auto minutes = whole_s / 60;
  if (minutes < 60) return std::to_string(minutes) + " min " + std::to_string(whole_s % 60) + " s";
  return std::to_string(minutes / 60) + " h " + std::to_string(minutes % 60) + " min";
}

}  // namespace

std::string human_bytes(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 999.5 && unit + 1 != units.size(); ++unit) value /= 1024;
  const int decimals = unit == 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return core::formatted("%.*f %s", decimals, value, units[unit]);
}

std::string human_rate(std::uint64_t bytes_per_s) { return human_bytes(bytes_per_s) + "/s"; }

std::string human_time(std::chrono::nanoseconds time) {
  const double ms = milliseconds(time);
  if (ms >= 99'995) return long_time(ms / 1000);
  if (ms >= 999.5) return core::formatted(ms >= 9995 ? "%.1f s" : "%.2f s", ms / 1000);
  if (ms >= 0.9995) return core::formatted(ms >= 9.95 ? "%.0f ms" : "%.1f ms", ms);
  return time.count() == 0 ? "0 ms" : core::formatted(ms >= 0.00995 ? "%.0f us" : "%.1f us", ms * 1000);
}

std::string human_share(std::uint64_t part, std::uint64_t whole) {
  if (whole == 0) return "-";
  const double percent = 100 * static_cast<double>(part) / static_cast<double>(whole);
  if (part != 0 && percent < 0.1) return "< 0.1 %";
  return core::formatted(percent >= 9.95 || part == 0 ? "%.0f %%" : "%.1f %%", percent);
}

std::string short_bytes(std::uint64_t bytes) { return without_idle_digits(human_bytes(bytes)); }

std::string short_time(std::chrono::nanoseconds time) { return without_idle_digits(human_time(time)); }

double milliseconds(std::chrono::nanoseconds time) noexcept {
  return std::chrono::duration<double, std::milli>(time).count();
}

}  // namespace tidemark::cli
