// SPDX-License-Identifier: Apache-2.0

#include "cli/plot_scale.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/formatted.hpp"

namespace tidemark::cli {
namespace {

constexpr double ticks_most = 8;

struct time_unit {
  double ns;
  const char* name;
};
constexpr time_unit us{1e3, "us"};
constexpr time_unit ms{1e6, "ms"};
constexpr time_unit s{1e9, "s"};
constexpr time_unit min{60e9, "min"};
constexpr time_unit h{3600e9, "h"};

/// The smallest of 1, 2, 5, 10, ... that is not smaller.
double decimal_step(double least) {
  const double decade = std::pow(10, std::floor(std::log10(least)));
  for (const double times : {1.0, 2.0, 5.0})
    if (decade * times >= least * (1 - 1e-9)) return decade * times;
  return decade * 10;
}

/// Minutes and hours have steps of their own.
double clock_step(double least) {
  constexpr std::array<double, 12> steps{60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400};
  const auto fits = std::find_if(steps.begin(), steps.end(), [&](double step) { return step * 1e9 >= least; });
  return fits != steps.end() ? *fits * 1e9 : std::ceil(least / 86400e9) * 86400e9;
}

time_unit unit_for(double end_ns) {
  if (end_ns >= 3 * h.ns) return h;
  if (end_ns >= 6 * min.ns) return min;
  if (end_ns >= s.ns) return s;
  return end_ns >= ms.ns ? ms : us;
}

}  // namespace

plot_scale bytes_scale(std::uint64_t most, const char* suffix) {
  constexpr std::array<const char*, 5> units{"B", "KiB", "MiB", "GiB", "TiB"};
  const double step =
      std::max(1.0, std::exp2(std::ceil(std::log2(static_cast<double>(std::max<std::uint64_t>(most, 4)) / 4))));
  const auto steps = static_cast<int>(std::max(3.0, std::ceil(static_cast<double>(most) / step)));
  plot_scale scale{step * steps, {}};
  std::size_t unit = 0;
  double in_unit = 1;
  for (; scale.top / in_unit >= 1024 && unit + 1 != units.size(); ++unit) in_unit *= 1024;
  for (int i = 0; i <= steps; ++i)
    scale.ticks.push_back({static_cast<double>(i) / steps,
                           i == 0 ? "0" : core::formatted("%g %s%s", i * step / in_unit, units[unit], suffix)});
  return scale;
}

plot_scale percent_scale() { return {100, {{0, "0"}, {0.5, "50 %"}, {1, "100 %"}}}; }

plot_scale time_scale(std::chrono::nanoseconds end) {
  const double top = std::max(static_cast<double>(end.count()), us.ns);
  const auto unit = unit_for(top);
  const double step = unit.ns >= min.ns ? clock_step(top / ticks_most) : decimal_step(top / ticks_most);
  plot_scale scale{top, {}};
  for (double at = 0; at <= top * (1 + 1e-9); at += step)
    scale.ticks.push_back({std::min(at / top, 1.0), at == 0 ? "0" : core::formatted("%g %s", at / unit.ns, unit.name)});
  return scale;
}

}  // namespace tidemark::cli
