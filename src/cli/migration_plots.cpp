// SPDX-License-Identifier: Apache-2.0

#include "cli/migration_plots.hpp"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "cli/human.hpp"
#include "cli/markup.hpp"
#include "cli/plot_scale.hpp"
#include "core/formatted.hpp"

namespace tidemark::cli {
namespace {

using std::chrono::nanoseconds;

constexpr double side = 1000;               // of the drawings' coordinates, both ways
constexpr double turn_share_least = 0.006;  // turns nearer to the one before are not drawn
constexpr double label_share_least = 0.03;  // rounds narrower than this have no number

/// What can be read off at a place; the order of samples_json().
enum class figure { bandwidth, dirtied, remaining, data, zero, repeated, wire, throttle };

struct point {
  nanoseconds at{};
  double value = 0;
};
using points = std::vector<point>;

struct entry {
  figure which;
  const char* style;
  const char* name;
  std::string told;  // when nothing is pointed at
};

struct frame {
  plot_scale time;
  plot_scale values;

  double x(nanoseconds at) const { return side * std::clamp(static_cast<double>(at.count()) / time.top, 0.0, 1.0); }
  double y(double value) const { return side * (1 - std::clamp(value / values.top, 0.0, 1.0)); }
};

std::string percent(double share) { return core::formatted("%.2f%%", 100 * share); }

// --- what is drawn ---

points values_of(const migration_record& record, std::uint64_t (*value)(const migration_progress&)) {
  points line;
  for (const auto& sample : record.samples()) line.push_back({sample.elapsed, static_cast<double>(value(sample))});
  return line;
}

std::uint64_t zero_top(const migration_progress& now) { return now.zero_bytes; }
std::uint64_t repeated_top(const migration_progress& now) { return now.zero_bytes + now.repeated_bytes; }
std::uint64_t sent_top(const migration_progress& now) { return now.sent_bytes; }
std::uint64_t wire_of(const migration_progress& now) { return now.wire_bytes; }
std::uint64_t throttle_of(const migration_progress& now) { return now.throttle_percent; }

/// As high as it was found afterwards for as long as the round took; after the last that is known, as it was.
points dirtied_steps(const migration_record& record) {
  points steps;
  for (const auto& round : record.rounds()) {
    if (!round.dirtied_bytes_per_s) continue;
    const auto rate = static_cast<double>(*round.dirtied_bytes_per_s);
    steps.push_back({round.began, rate});
    steps.push_back({round.ended, rate});
  }
  return steps;
}

/// A saw: it rises where a round begins, with the exact heights of its teeth, however much the samples are thinned out.
points remaining_saw(const migration_record& record) {
  points saw;
  const auto& rounds = record.rounds();
  auto round = rounds.begin();
  for (const auto& sample : record.samples()) {
    for (; round != rounds.end() && round->began <= sample.elapsed; ++round) {
      if (round != rounds.begin()) saw.push_back({round->began, static_cast<double>(std::prev(round)->left_bytes)});
      saw.push_back({round->began, static_cast<double>(round->dirty_bytes)});
    }
    saw.push_back({sample.elapsed, static_cast<double>(sample.remaining_bytes)});
  }
  return saw;
}

double most_of(const points& line) {
  double most = 0;
  for (const auto& one : line) most = std::max(most, one.value);
  return most;
}

// --- how ---

std::string path_of(const points& line, const frame& in) {
  std::string path;
  for (const auto& one : line)
    path += core::formatted("%s%.1f %.1f", path.empty() ? "M" : "L", in.x(one.at), in.y(one.value));
  return path;
}

std::string line(const points& values, const frame& in, const char* style) {
  if (values.size() < 2) return {};
  return core::formatted("<path class=\"line %s\" d=\"", style) + path_of(values, in) + "\"/>\n";
}

std::string area(const points& values, const frame& in, const char* style) {
  if (values.size() < 2) return {};
  const auto end = core::formatted("L%.1f %.0fL%.1f %.0fZ", in.x(values.back().at), side, in.x(values.front().at), side);
  return core::formatted("<path class=\"area %s\" d=\"", style) + path_of(values, in) + end + "\"/>\n";
}

std::string band(const frame& in, const char* style, nanoseconds from, nanoseconds to) {
  const double left = in.x(from) / side;
  return core::formatted("<span class=\"band %s\" style=\"left:%s;width:%s\"></span>", style, percent(left).c_str(),
                         percent(in.x(to) / side - left).c_str());
}

/// Where nothing moved, and where the guest stood still.
std::string bands(const migration_record& record, const frame& in) {
  std::string drawn;
  for (const auto& span : record.phases()) {
    if (span.phase == migration_phase::held) drawn += band(in, "held", span.began, span.ended);
    if (span.phase == migration_phase::recovering) drawn += band(in, "recovering", span.began, span.ended);
  }
  for (const auto& round : record.rounds())
    if (round.stop_and_copy) drawn += band(in, "paused", round.began, round.ended);
  return drawn;
}

std::string turns(const migration_record& record, const frame& in, bool numbered) {
  std::string drawn;
  double drawn_at = 0;
  for (const auto& round : record.rounds()) {
    const auto at = percent(in.x(round.began) / side);
    if (in.x(round.began) - drawn_at >= turn_share_least * side) {
      drawn += "<span class=\"turn\" style=\"left:" + at + "\"></span>";
      drawn_at = in.x(round.began);
    }
    const bool wide = in.x(round.ended) - in.x(round.began) >= label_share_least * side;
    if (numbered && wide && !round.stop_and_copy)
      drawn += "<span class=\"number\" style=\"left:" + at + "\">" + std::to_string(round.number) + "</span>";
  }
  return drawn;
}

std::string axes(const frame& in) {
  std::string drawn;
  for (const auto& one : in.values.ticks) {
    drawn += "<span class=\"rule\" style=\"bottom:" + percent(one.at) + "\"></span>";
    drawn += "<span class=\"y\" style=\"bottom:" + percent(one.at) + "\">" + escaped(one.label) + "</span>";
  }
  std::size_t i = 0;
  for (const auto& one : in.time.ticks) {
    const auto* parity = i++ % 2 == 0 ? "x" : "x odd";
    drawn += core::formatted("<span class=\"%s\" style=\"left:%s\">", parity, percent(one.at).c_str()) + escaped(one.label) +
             "</span>";
  }
  return drawn;
}

std::string key_of(const std::vector<entry>& entries) {
  std::string drawn = "<ul class=\"key\">";
  for (const auto& one : entries)
    drawn += core::formatted("<li><i class=\"%s\"></i>%s <b data-value=\"%d\">", one.style, one.name,
                             static_cast<int>(one.which)) +
             escaped(one.told) + "</b></li>";
  return drawn + "</ul>";
}

struct chart {
  const char* title;
  std::vector<entry> entries;
  std::string drawing;
  bool numbered = false;
  const char* size = "";
};

std::string drawn(const chart& what, const migration_record& record, const frame& in) {
  return core::formatted("<figure class=\"chart %s\">\n<figcaption><h2>%s</h2>", what.size, what.title) +
         key_of(what.entries) + "</figcaption>\n<div class=\"plot\">" + axes(in) + bands(record, in) +
         turns(record, in, what.numbered) +
         core::formatted("\n<svg viewBox=\"0 0 %.0f %.0f\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"%s\">\n",
                         side, side, what.title) +
         what.drawing + "</svg><span class=\"cursor\"></span></div>\n</figure>\n";
}

std::string most_words(double bytes_per_s) { return "at most " + human_rate(static_cast<std::uint64_t>(bytes_per_s)); }

std::string rates(const migration_record& record, const plot_scale& time) {
  const auto bandwidth = values_of(record, [](const migration_progress& now) { return now.bandwidth_bytes_per_s; });
  const auto dirtied = dirtied_steps(record);
  const double most = std::max(most_of(bandwidth), most_of(dirtied));
  const frame in{time, bytes_scale(static_cast<std::uint64_t>(most), "/s")};
  chart what{"Bandwidth and dirty rate", {}, {}};
  what.entries = {{figure::bandwidth, "bandwidth", "pages arrive", most_words(most_of(bandwidth))},
                  {figure::dirtied, "dirtied", "the guest dirties",
                   dirtied.empty() ? std::string("not known yet") : most_words(most_of(dirtied))}};
  what.drawing = area(bandwidth, in, "bandwidth") + line(bandwidth, in, "bandwidth") + line(dirtied, in, "dirtied");
  return drawn(what, record, in);
}

std::string remaining(const migration_record& record, const plot_scale& time) {
  const auto saw = remaining_saw(record);
  const frame in{time, bytes_scale(static_cast<std::uint64_t>(most_of(saw)))};
  chart what{"Still to be sent", {}, {}, true};
  what.entries = {{figure::remaining, "remaining", "remaining", human_bytes(record.last().remaining_bytes) + " at the end"}};
  what.drawing = area(saw, in, "remaining") + line(saw, in, "remaining");
  return drawn(what, record, in);
}

/// Zero pages lowest, for they cost the least; each area is drawn over the one that is higher.
std::string sent(const migration_record& record, const plot_scale& time) {
  const auto wire = values_of(record, wire_of);
  const auto all = values_of(record, sent_top);
  const frame in{time, bytes_scale(static_cast<std::uint64_t>(std::max(most_of(all), most_of(wire))))};
  const auto& last = record.last();
  chart what{"Sent since the beginning", {}, {}};
  what.entries = {
      {figure::data, "data", "data", human_bytes(last.sent_bytes - std::min(last.sent_bytes, repeated_top(last)))},
      {figure::repeated, "repeated", "repeated pages", human_bytes(last.repeated_bytes)},
      {figure::zero, "zero", "zero pages", human_bytes(last.zero_bytes)}};
  what.drawing = area(all, in, "data") + area(values_of(record, repeated_top), in, "repeated") +
                 area(values_of(record, zero_top), in, "zero");
  if (most_of(wire) > 0) {
    what.entries.push_back({figure::wire, "wire", "on the wire", human_bytes(last.wire_bytes)});
    what.drawing += line(wire, in, "wire");
  }
  return drawn(what, record, in);
}

std::string throttle(const migration_record& record, const plot_scale& time) {
  if (record.throttle_most_percent() == 0) return {};
  const auto values = values_of(record, throttle_of);
  const frame in{time, percent_scale()};
  chart what{"How much the guest was slowed down", {}, {}, false, "low"};
  what.entries = {
      {figure::throttle, "throttle", "throttle", "at most " + std::to_string(record.throttle_most_percent()) + " %"}};
  what.drawing = area(values, in, "throttle") + line(values, in, "throttle");
  return drawn(what, record, in);
}

/// What the coloured bands mean, those that there are.
std::string band_key(const migration_record& record) {
  const auto& phases = record.phases();
  const auto any = [&](migration_phase phase) {
    return std::any_of(phases.begin(), phases.end(), [&](const phase_span& span) { return span.phase == phase; });
  };
  std::string entries = "<li><i class=\"turn\"></i>a round begins</li>";
  if (any(migration_phase::stop_and_copy)) entries += "<li><i class=\"paused\"></i>the guest stands still</li>";
  if (any(migration_phase::held)) entries += "<li><i class=\"held\"></i>held</li>";
  if (any(migration_phase::recovering)) entries += "<li><i class=\"recovering\"></i>a connection is made anew</li>";
  return "<ul class=\"key bands\">" + entries + "</ul>\n";
}

}  // namespace

std::string plots_of(const migration_record& record) {
  if (record.samples().size() < 2) return {};
  const auto time = time_scale(record.end());
  return band_key(record) + rates(record, time) + remaining(record, time) + sent(record, time) + throttle(record, time);
}

std::string samples_json(const migration_record& record) {
  std::string rows;
  const auto dirtied = dirtied_steps(record);
  auto step = dirtied.begin();
  for (const auto& now : record.samples()) {
    while (step != dirtied.end() && std::next(step) != dirtied.end() && std::next(step)->at <= now.elapsed) ++step;
    const double dirtied_bytes_per_s = step == dirtied.end() ? 0 : step->value;
    const auto kib = [](std::uint64_t bytes) { return static_cast<unsigned long long>(bytes / 1024); };
    const auto data = now.sent_bytes - std::min(now.sent_bytes, repeated_top(now));
    rows += core::formatted("%s[%.3f,%llu,%.0f,%llu,%llu,%llu,%llu,%llu,%u]", rows.empty() ? "" : ",\n",
                            milliseconds(now.elapsed), kib(now.bandwidth_bytes_per_s), dirtied_bytes_per_s / 1024,
                            kib(now.remaining_bytes), kib(data), kib(now.zero_bytes), kib(now.repeated_bytes),
                            kib(now.wire_bytes), now.throttle_percent);
  }
  return "[" + rows + "]";
}

}  // namespace tidemark::cli
