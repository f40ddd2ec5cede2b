// SPDX-License-Identifier: Apache-2.0
//
// The picture: a row for each pattern, throughput left, latencies right, the engine above the plain loop. Bars of throughput
// are relative to the faster side of their pattern; latencies are on one logarithmic scale. Colours are the reader's: the
// picture asks whether the page is dark.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>

#include "cli/human.hpp"
#include "cli/map_bench_report.hpp"
#include "cli/markup.hpp"
#include "cli/size.hpp"
#include "core/formatted.hpp"

namespace tidemark::cli {
namespace {

constexpr double row_height = 58;
constexpr double top = 92;
constexpr double bars_at = 150;
constexpr double bars_width = 240;
constexpr double scale_at = 520;
constexpr double scale_width = 330;
constexpr double width = scale_at + scale_width + 40;

std::string text_at(double x, double y, const char* style, const std::string& text) {
  return core::formatted("<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">", style, x, y) + escaped(text) + "</text>\n";
}

std::string operations_text(double per_s) {
  if (per_s >= 1e6) return core::formatted("%.2f M/s", per_s / 1e6);
  if (per_s >= 1e3) return core::formatted("%.1f k/s", per_s / 1e3);
  return core::formatted("%.1f /s", per_s);
}

std::string time_text(double us) {
  return short_time(std::chrono::nanoseconds(static_cast<std::int64_t>(std::round(us * 1000))));
}

/// Where latencies stand: whole powers of ten around all that was measured.
class log_scale {
 public:
  explicit log_scale(const std::vector<pattern_report>& patterns) {
    double least = 1e9;
    double most = 0;
    for (const auto& p : patterns) {
      for (const auto* s : {&p.engine, &p.plain}) {
        least = std::min(least, std::max(s->p50_us, 0.01));
        most = std::max(most, s->p999_us);
      }
    }
    first_ = static_cast<int>(std::floor(std::log10(std::min(least, std::max(most, 0.01)))));
    last_ = std::max(first_ + 1, static_cast<int>(std::ceil(std::log10(std::max(most, 0.01)))));
  }

  double x(double us) const {
    const double at = (std::log10(std::max(us, 0.01)) - first_) / (last_ - first_);
    return scale_at + std::clamp(at, 0.0, 1.0) * scale_width;
  }
  int first() const noexcept { return first_; }
  int last() const noexcept { return last_; }

 private:
  int first_ = 0;
  int last_ = 1;
};

std::string grid(const log_scale& scale, double bottom) {
  std::string drawn;
  for (int power = scale.first(); power <= scale.last(); ++power) {
    const double x = scale.x(std::pow(10, power));
    drawn +=
        core::formatted("<line class=\"grid\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x, top - 8, x, bottom);
    drawn += text_at(x, top - 14, "small middle", time_text(std::pow(10, power)));
  }
  return drawn;
}

std::string side(const side_summary& s, double fastest, const log_scale& scale, double y, const char* style) {
  const double length = fastest > 0 ? bars_width * s.operations_per_s / fastest : 0;
  auto drawn = core::formatted("<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"16\" rx=\"2\"/>\n", style,
                               bars_at, y, std::max(length, 1.0));
  drawn += text_at(bars_at + length + 6, y + 12, "small", operations_text(s.operations_per_s));
  drawn += core::formatted("<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke-width=\"3\"/>\n",
                           style, scale.x(s.p50_us), y + 8, scale.x(s.p999_us), y + 8);
  double radius = 6;
  for (const double us : {s.p50_us, s.p99_us, s.p999_us}) {
    drawn +=
        core::formatted("<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\"/>\n", style, scale.x(us), y + 8, radius);
    radius -= 1.5;
  }
  return drawn;
}

std::string row(const pattern_report& p, const log_scale& scale, double y) {
  const double fastest = std::max(p.engine.operations_per_s, p.plain.operations_per_s);
  auto drawn = text_at(20, y + 15, "name", std::string(name_of(p.which)));
  drawn += text_at(20, y + 33, "small", core::formatted("time %.2f of plain", p.time_vs_plain));
  drawn += side(p.engine, fastest, scale, y, "engine");
  drawn += side(p.plain, fastest, scale, y + 20, "plain");
  return drawn;
}

std::string legend() {
  return core::formatted("<rect class=\"engine\" x=\"%.1f\" y=\"42\" width=\"12\" height=\"12\" rx=\"2\"/>\n", bars_at) +
         text_at(bars_at + 18, 52, "small", "engine") +
         core::formatted("<rect class=\"plain\" x=\"%.1f\" y=\"42\" width=\"12\" height=\"12\" rx=\"2\"/>\n", bars_at + 80) +
         text_at(bars_at + 98, 52, "small", "plain loop of the same ioctls") +
         text_at(bars_at, top - 14, "small", "operations a second") +
         text_at(scale_at, 52, "small", "latency: p50, p99, p99.9, large dot to small");
}

std::string notes(const map_report& report, double y) {
  std::string drawn;
  if (report.stall) {
    drawn +=
        text_at(20, y, "small",
                core::formatted(
                    "loop's longest stall while memory is pinned: %.0f us; idle %.0f us; with the ioctl on a bare thread "
                    "%.0f us",
                    median_us(report.stall->engine), median_us(report.stall->idle), median_us(report.stall->beside)));
    y += 18;
  }
  if (report.planner) {
    const auto& p = *report.planner;
    drawn += text_at(
        20, y, "small",
        core::formatted("on a kernel that does nothing: %.0f ns an operation; with many mappings held %.0f ns, with few "
                        "%.0f ns; %.0f bytes a mapping",
                        p.engine_ns_per_op, p.many_ns_per_op, p.few_ns_per_op, p.bytes_per_mapping));
  }
  return drawn;
}

constexpr const char* style =
    "<style>\n"
    "svg{background:#ffffff} text{font:13px sans-serif;fill:#1d2329} .title{font-size:16px;font-weight:bold}\n"
    ".name{font-weight:bold} .small{font-size:11px} .middle{text-anchor:middle} .grid{stroke:#d5dae0}\n"
    ".engine{fill:#1f6fd6;stroke:#1f6fd6} .plain{fill:#c2701a;stroke:#c2701a}\n"
    "@media (prefers-color-scheme: dark){svg{background:#14181d} text{fill:#d7dce2} .grid{stroke:#343c45}\n"
    ".engine{fill:#7fb4ff;stroke:#7fb4ff} .plain{fill:#f0a860;stroke:#f0a860}}\n"
    "</style>\n";

}  // namespace

std::string as_svg(const map_report& report) {
  const log_scale scale(report.patterns);
  const double bottom = top + row_height * static_cast<double>(report.patterns.size());
  const double height = bottom + 60;
  auto drawn = core::formatted(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" width=\"%.0f\" height=\"%.0f\">\n", width, height,
      width, height);
  drawn += style;
  const auto& chosen = report.request.config;
  drawn += text_at(20, 26, "title",
                   "tidemark bench map: " + std::string(chosen.bench_kernel == kernel_choice::model ? "model" : "Linux") +
                       ", device " + report.device + ", " + size_text(chosen.bench_memory_bytes));
  drawn += legend() + grid(scale, bottom);
  for (std::size_t i = 0; i < report.patterns.size(); ++i)
    drawn += row(report.patterns[i], scale, top + row_height * static_cast<double>(i));
  return drawn + notes(report, bottom + 20) + "</svg>\n";
}

}  // namespace tidemark::cli
