// SPDX-License-Identifier: Apache-2.0
//
// The picture: how long three sources of 1 TiB take over how much of each is dirty, scattered and clustered, next to memcpy
// and to the obvious loop. Both scales are logarithmic; nothing dirty stands left of the break. Colours are the reader's:
// the picture asks whether the page is dark.

#include <algorithm>
#include <cmath>

#include "core/formatted.hpp"
#include "dirty_bench_report.hpp"

namespace tidemark::bench {

namespace {

constexpr double left = 70;
constexpr double right = 560;
constexpr double top = 60;
constexpr double bottom = 330;
constexpr double width = 740;
constexpr double height = 385;
constexpr unsigned drawn_sources = 3;

std::string text_at(double x, double y, const char* style, const std::string& text) {
  return core::formatted("<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", style, x, y) + text + "</text>\n";
}

/// 0, 0.1, 1, 10, 100 % at equal distances.
double x_of(double percent) {
  const double place = percent <= 0 ? 0 : std::log10(percent) + 2;
  return left + (right - left) * place / 4;
}

double y_of(double ms) { return bottom - (bottom - top) * std::clamp(std::log10(std::max(ms, 1.0)) / 3, 0.0, 1.0); }

struct point {
  double percent;
  double ms;
};

/// A line with its name at its end.
std::string line(const std::vector<point>& points, const char* style, const std::string& name, double name_y) {
  if (points.empty()) return {};
  std::string way;
  std::string dots;
  for (const auto& p : points) {
    way += core::formatted("%.1f,%.1f ", x_of(p.percent), y_of(p.ms));
    dots += core::formatted("<circle class=\"%s dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>\n", style, x_of(p.percent),
                            y_of(p.ms));
  }
  return core::formatted("<polyline class=\"%s\" points=\"", style) + way + "\"/>\n" + dots +
         core::formatted("<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", style, right + 22, name_y,
                         right + 40, name_y) +
         text_at(right + 46, name_y + 4, "small", name);
}

/// Of the rows of a shape; what is the same in every shape (all, or nothing) belongs to each.
template <class Time>
std::vector<point> points_of(const report& told, shape how, Time time) {
  std::vector<point> points;
  for (const auto& row : told.rows)
    if (row.guest_tib == 1 && row.sources == drawn_sources &&
        (row.how == how || row.dirty_percent == 0 || row.dirty_percent == 100))
      points.push_back({row.dirty_percent, time(row)});
  std::sort(points.begin(), points.end(), [](const point& a, const point& b) { return a.percent < b.percent; });
  return points;
}

std::string grid() {
  std::string drawn;
  for (const double ms : {1, 10, 100, 1000}) {
    drawn += core::formatted("<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", left, y_of(ms),
                             right, y_of(ms));
    drawn += text_at(left - 10, y_of(ms) + 4, "small end", core::formatted("%g ms", ms));
  }
  for (const double percent : {0.0, 0.1, 1.0, 10.0, 100.0})
    drawn += text_at(x_of(percent), bottom + 20, "small middle", core::formatted("%g %%", percent));
  return drawn + text_at((left + right) / 2, bottom + 40, "small middle", "of each source's pages dirty");
}

constexpr const char* style =
    "<style>\n"
    "svg{background:#ffffff} text{font:13px sans-serif;fill:#1d2329} .title{font-size:16px;font-weight:bold}\n"
    ".small{font-size:11px} .middle{text-anchor:middle} .end{text-anchor:end} .grid{stroke:#d5dae0}\n"
    "polyline,line{fill:none;stroke-width:2} .grid{stroke-width:1}\n"
    ".ours{stroke:#1f6fd6} .near{stroke:#1f6fd6;stroke-dasharray:5 4} .plain{stroke:#c2701a} .copy{stroke:#7a8591}\n"
    ".ours.dot,.near.dot{fill:#1f6fd6} .plain.dot{fill:#c2701a} .copy.dot{fill:#7a8591} .dot{stroke:none}\n"
    "@media (prefers-color-scheme: dark){svg{background:#14181d} text{fill:#d7dce2} .grid{stroke:#343c45}\n"
    ".ours,.near{stroke:#7fb4ff} .plain{stroke:#f0a860} .ours.dot,.near.dot{fill:#7fb4ff} .plain.dot{fill:#f0a860}\n"
    ".dot{stroke:none}}\n"
    "</style>\n";

}  // namespace

std::string as_svg(const report& told) {
  const auto ours = [](const scan_row& row) { return row.ms; };
  const auto copying = [](const scan_row& row) { return row.memcpy_ms; };
  const auto plain = [](const scan_row& row) { return row.plain_ms.value_or(0); };
  return core::formatted(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\">\n", width,
             height, width, height) +
         style + text_at(20, 26, "title", "tidemark bench dirty: three sources of 1 TiB taken in and handed out as runs") +
         grid() + line(points_of(told, shape::scattered, plain), "plain", "obvious, scattered", top + 20) +
         line(points_of(told, shape::scattered, ours), "ours", "union, scattered", top + 44) +
         line(points_of(told, shape::clustered, ours), "near", "union, clustered", top + 68) +
         line(points_of(told, shape::scattered, copying), "copy", "memcpy", top + 92) + "</svg>\n";
}

}  // namespace tidemark::bench
