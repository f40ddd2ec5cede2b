// SPDX-License-Identifier: Apache-2.0

#include "cli/migration_html.hpp"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "cli/human.hpp"
#include "cli/markup.hpp"
#include "cli/migration_forecast.hpp"
#include "cli/migration_html_style.hpp"
#include "cli/migration_plots.hpp"
#include "core/formatted.hpp"

namespace tidemark::cli {
namespace {

using std::chrono::nanoseconds;

constexpr std::size_t rows_first = 30;  // of a long table, as many are shown at its beginning
constexpr std::size_t rows_last = 20;
constexpr nanoseconds time_of_nothing{};

// --- words ---

/// As on a page, which can write what a terminal may not.
std::string time_text(nanoseconds time) {
  auto text = human_time(time);
  if (text.ends_with(" us")) text.replace(text.size() - 2, 1, "\xc2\xb5");
  return text;
}

std::string blackout_text(const blackout_parts& parts) {
  const auto length = length_of(parts);
  return length ? time_text(*length) : "no end";
}

std::string destination_of(const migration_record& record) {
  const auto& what = record.what();
  return what.destination_host.empty() ? what.target : what.destination_host;
}

/// " to HOST", or nothing.
std::string to_there(const migration_record& record) {
  const auto where = destination_of(record);
  return where.empty() ? where : " to " + where;
}

std::string moved(const migration_record& record, const migration_summary& done) {
  return short_bytes(record.total_bytes()) + " moved" + to_there(record) + " in " + time_text(done.total) +
         "; the guest stood still for " + blackout_text(done.blackout) +
         (length_of(done.predicted) ? ", predicted " + blackout_text(done.predicted) : "");
}

std::string stage_of(const migration_progress& last) {
  if (is_paused(last.phase) || last.round == 0) return std::string(name_of(last.phase));
  return "round " + std::to_string(last.round);
}

/// For a sentence.
std::string in_stage(const migration_progress& last) {
  if (last.phase == migration_phase::stop_and_copy) return "in the stop-and-copy";
  if (last.phase == migration_phase::handed_over) return "after the hand-over";
  return last.round == 0 ? "while connecting" : "in round " + std::to_string(last.round);
}

/// The beginning of a sentence.
std::string capitalised(std::string text) {
  if (!text.empty() && text.front() >= 'a' && text.front() <= 'z')
    text.front() = static_cast<char>(text.front() - 'a' + 'A');
  return text;
}

std::string whereabouts(const migration_record& record, const error& failure) {
  if (!failure.undone.empty()) return failure.undone;
  return record.last().phase == migration_phase::handed_over
             ? "look whether the guest runs at the destination before you resume it here"
             : "the guest was not handed over";
}

std::string not_moved(const migration_record& record, error failure) {
  const auto guest = whereabouts(record, failure);
  failure.undone.clear();
  const auto when = record.samples().empty() ? std::string(" before it began")
                                             : " after " + time_text(record.end()) + ", " + in_stage(record.last());
  return "The migration" + to_there(record) + " failed" + when + ": " + failure.message() + ". " + capitalised(guest);
}

std::string on_its_way(const migration_record& record) {
  if (record.samples().empty()) return "A migration" + to_there(record) + " that has not begun";
  const auto& last = record.last();
  return short_bytes(record.total_bytes()) + " on their way" + to_there(record) + ": after " + time_text(record.end()) +
         ", in " + in_stage(last) + ", " + human_bytes(last.remaining_bytes) + " remain";
}

std::string name_of(compression pages) {
  constexpr std::array<const char*, 4> names{"whichever pays", "none", "lz4", "zstd"};
  return names[static_cast<std::size_t>(pages)];
}

std::string yes_or_no(bool value) { return value ? "yes" : "no"; }

// --- elements ---

std::string element(const char* name, const std::string& text) {
  return std::string("<") + name + ">" + escaped(text) + "</" + name + ">";
}

std::string tile(const char* name, const std::string& value, const std::string& note) {
  return "<div>" + element("dt", name) + "<dd>" + escaped(value) + element("small", note) + "</dd></div>\n";
}

std::string fact(const char* name, const std::string& value) {
  return value.empty() ? value : "<div>" + element("dt", name) + element("dd", value) + "</div>\n";
}

std::string card(const char* title, const std::string& beside, const std::string& content) {
  return "<section class=\"card\">\n<header>" + element("h2", title) + beside + "</header>\n" + content + "</section>\n";
}

/// A long table loses its middle. `row` is given an index.
template <class Row>
std::string rows(std::size_t count, std::size_t columns, Row row) {
  std::string drawn;
  const bool is_long = count > rows_first + rows_last;
  for (std::size_t i = 0; i < count; ++i) {
    if (is_long && i == rows_first) {
      i = count - rows_last;
      drawn += core::formatted("<tr><td class=\"gap\" colspan=\"%zu\">%zu more</td></tr>\n", columns, i - rows_first);
    }
    drawn += row(i);
  }
  return drawn;
}

// --- parts of the page ---

std::string state_of(const migration_record& record) {
  if (record.failure()) return "failed";
  return record.summary() ? "done" : "running";
}

std::string top(const migration_record& record) {
  const auto& what = record.what();
  std::string route;
  if (!what.source_host.empty() && !what.destination_host.empty())
    route = "<b>" + escaped(what.source_host) + "</b> \xe2\x86\x92 <b>" + escaped(what.destination_host) + "</b>";
  if (!what.target.empty()) route += (route.empty() ? "" : " \xc2\xb7 ") + escaped(what.target);
  return "<header class=\"" + state_of(record) + "\">\n<p class=\"kicker\">Live migration \xc2\xb7 <b>" + state_of(record) +
         "</b>" + (what.began.empty() ? "" : " \xc2\xb7 " + escaped(what.began)) + "</p>\n" +
         element("h1", headline(record)) + "\n<p class=\"route\">" + route + "</p>\n</header>\n";
}

std::string mean_rate(std::uint64_t bytes, nanoseconds time) {
  const double s = std::chrono::duration<double>(time).count();
  return s <= 0 ? "-" : human_rate(static_cast<std::uint64_t>(static_cast<double>(bytes) / s));
}

std::string times_memory(const migration_record& record, std::uint64_t bytes) {
  const auto total = record.total_bytes();
  if (total == 0) return {};
  const double times = static_cast<double>(bytes) / static_cast<double>(total);
  return core::formatted(times < 100 ? "%.2f times the memory" : "%.0f times the memory", times);
}

std::string tiles_of_done(const migration_record& record, const migration_summary& done) {
  auto tiles = tile("Took", time_text(done.total), "of pre-copy and switchover") +
               tile("Guest stood still", blackout_text(done.blackout),
                    "the target was " + short_time(record.what().options.downtime_target)) +
               tile("Sent", human_bytes(done.sent_bytes), times_memory(record, done.sent_bytes));
  if (done.wire_bytes != 0)
    tiles += tile("On the wire", human_bytes(done.wire_bytes),
                  human_share(done.wire_bytes, done.sent_bytes) + " of what was sent");
  tiles += tile("Pages arrived at", mean_rate(done.sent_bytes, done.total), "in the mean");
  return tiles + tile("Rounds", std::to_string(done.rounds),
                      "then " + human_bytes(done.stop_and_copy_bytes) + " while it stood still");
}

std::string tiles_of_last(const migration_record& record) {
  const auto& last = record.last();
  return tile("Took", time_text(record.end()), "until the last report") +
         tile("Sent", human_bytes(last.sent_bytes), times_memory(record, last.sent_bytes)) +
         tile("Remaining", human_bytes(last.remaining_bytes), "of " + human_bytes(record.total_bytes())) +
         tile("Pages arrived at", mean_rate(last.sent_bytes, last.elapsed), "in the mean") +
         tile("Came to", stage_of(last),
              last.recoveries == 0 ? "no connection broke" : std::to_string(last.recoveries) + " connections made anew");
}

std::string tiles(const migration_record& record) {
  if (record.samples().empty() && !record.summary()) return {};
  const auto& done = record.summary();
  return "<dl class=\"tiles\">\n" + (done ? tiles_of_done(record, *done) : tiles_of_last(record)) + "</dl>\n";
}

struct blackout_part {
  const char* style;
  const char* name;
  nanoseconds blackout_parts::*length;
};
constexpr std::array parts{blackout_part{"pause", "pause", &blackout_parts::pause},
                           blackout_part{"sync", "sync", &blackout_parts::sync},
                           blackout_part{"send", "send", &blackout_parts::send},
                           blackout_part{"hand_over", "hand over", &blackout_parts::hand_over}};

std::string bar(const blackout_parts& of, nanoseconds longest, nanoseconds target) {
  const auto share = [&](nanoseconds length) {
    return 100 * static_cast<double>(length.count()) / static_cast<double>(longest.count());
  };
  std::string drawn = "<span class=\"bar\">";
  for (const auto& part : parts)
    if (of.*part.length > time_of_nothing)
      drawn += core::formatted("<i class=\"%s\" style=\"width:%.3f%%\" title=\"%s %s\"></i>", part.style,
                               share(of.*part.length), part.name, time_text(of.*part.length).c_str());
  if (target <= longest && target > time_of_nothing)
    drawn += core::formatted("<span class=\"target\" style=\"left:%.3f%%\"></span>", share(target));
  return drawn + "</span>";
}

std::string bar_row(const char* name, const blackout_parts& of, nanoseconds longest, nanoseconds target) {
  return core::formatted("<div class=\"%s\" style=\"display:contents\">", name) +
         core::formatted("<span class=\"what\">%s</span>", name) + bar(of, longest, target) + "<span class=\"sum\">" +
         escaped(blackout_text(of)) + "</span></div>\n";
}

std::string part_row(const blackout_part& part, const migration_summary& done) {
  return core::formatted("<tr><td><ul class=\"key\"><li><i class=\"%s\"></i>%s</li></ul></td>", part.style, part.name) +
         element("td", time_text(done.blackout.*part.length)) +
         element("td", length_of(done.predicted) ? time_text(done.predicted.*part.length) : "no end") + "</tr>\n";
}

std::string blackout(const migration_record& record) {
  if (!record.summary()) return {};
  const auto& done = *record.summary();
  const auto predicted = length_of(done.predicted);
  const auto target = nanoseconds(record.what().options.downtime_target);
  auto longest = std::max({done.blackout.total(), predicted.value_or(time_of_nothing), nanoseconds(1)});
  const bool near = target <= 2 * longest;
  if (near) longest = std::max(longest, target);
  auto drawn = "<div class=\"bars\">\n" + bar_row("measured", done.blackout, longest, target);
  if (predicted) drawn += bar_row("predicted", done.predicted, longest, target);
  drawn += "</div>\n<div class=\"scroll\"><table>\n<tr><th>part</th><th>measured</th><th>predicted</th></tr>\n";
  for (const auto& part : parts) drawn += part_row(part, done);
  const auto beside = "<p class=\"route\">" +
                      std::string(near ? "the dashed line is the target, " : "far below the target of ") +
                      escaped(short_time(target)) + "</p>";
  return card("The blackout", beside, drawn + "</table></div>\n");
}

std::string round_row(const migration_round& round, std::uint64_t most_bytes) {
  const double share = most_bytes == 0 ? 0 : 100 * static_cast<double>(round.dirty_bytes) / static_cast<double>(most_bytes);
  return std::string(round.stop_and_copy ? "<tr class=\"last\">" : "<tr>") + element("td", name_of(round)) +
         element("td", time_text(round.began)) +
         core::formatted("<td class=\"amount optional\"><i style=\"width:%.1f%%\"></i></td>", share) +
         element("td", human_bytes(round.dirty_bytes)) + element("td", human_bytes(round.sent_bytes)) +
         element("td", human_rate(round.sent_bytes_per_s())) + element("td", time_text(round.time())) +
         element("td", round.dirtied_bytes_per_s ? human_rate(*round.dirtied_bytes_per_s) : "\xe2\x80\x93") + "</tr>\n";
}

std::string rounds(const migration_record& record) {
  const auto& all = record.rounds();
  if (all.empty()) return {};
  std::uint64_t most = 0;
  for (const auto& round : all) most = std::max(most, round.dirty_bytes);
  const auto left_out = record.rounds_seen() - all.size();
  const auto beside = left_out == 0 ? std::string()
                                    : "<p class=\"route\">" + std::to_string(left_out) + " of " +
                                          std::to_string(record.rounds_seen()) + " were not kept</p>";
  return card(
      "Rounds", beside,
      "<div class=\"scroll\"><table>\n<tr><th></th><th>began</th><th class=\"optional\"></th><th>dirty</th><th>sent</th>"
      "<th>rate</th><th>time</th><th>dirtied meanwhile</th></tr>\n" +
          rows(all.size(), 8, [&](std::size_t i) { return round_row(all[i], most); }) + "</table></div>\n");
}

/// "2.22 GiB, 20 %".
std::string with_share(std::uint64_t part, std::uint64_t whole) {
  return human_bytes(part) + (whole == 0 ? "" : ", " + human_share(part, whole));
}

std::string option_facts(const migration_subject& what) {
  const auto& options = what.options;
  return fact("Downtime target", short_time(options.downtime_target)) +
         fact("Bandwidth limit", options.bandwidth_bytes_per_s == 0 ? "none" : human_rate(options.bandwidth_bytes_per_s)) +
         fact("Rounds at most", std::to_string(options.rounds_max)) + fact("Compression", name_of(options.pages)) +
         fact("May slow the guest down", yes_or_no(options.throttle)) +
         fact("Connections made anew within",
              options.recovery_window.count() == 0 ? "never" : short_time(options.recovery_window)) +
         fact("Memory compared", yes_or_no(options.compare));
}

std::string outcome_facts(const migration_record& record) {
  const auto& last = record.last();
  const auto& done = record.summary();
  const auto sent = done ? done->sent_bytes : last.sent_bytes;
  const auto wire = done ? done->wire_bytes : last.wire_bytes;
  const auto zero = done ? done->zero_bytes : last.zero_bytes;
  const auto repeated = done ? done->repeated_bytes : last.repeated_bytes;
  const auto channels = done && done->channels != 0 ? done->channels : record.what().channels;
  return fact("Channels", channels == 0 ? "" : std::to_string(channels)) + fact("Bytes of pages", human_bytes(sent)) +
         fact("Bytes on the wire", wire == 0 ? "" : with_share(wire, sent)) + fact("Zero pages", with_share(zero, sent)) +
         fact("Repeated pages", with_share(repeated, sent)) +
         fact("Devices' state", human_bytes(done ? done->device_bytes : last.device_bytes)) +
         fact("Connections made anew", std::to_string(done ? done->recoveries : last.recoveries)) +
         fact("Slowed down by at most", std::to_string(record.throttle_most_percent()) + " %") +
         fact("Memory found identical", done && done->compared ? "yes, every RAM block" : "");
}

std::string facts(const migration_record& record) {
  const auto& what = record.what();
  return card("Facts", {},
              "<dl class=\"facts\">\n" + fact("Target", what.target) + fact("From", what.source_host) +
                  fact("To", what.destination_host) + fact("Began", what.began) + outcome_facts(record) +
                  option_facts(what) + "</dl>\n");
}

std::string blocks(const migration_record& record) {
  const auto& all = record.what().blocks;
  if (all.empty()) return {};
  const auto row = [&](std::size_t i) {
    return "<tr><td class=\"left\">" + escaped(all[i].name) + "</td>" + element("td", human_bytes(all[i].size)) + "</tr>\n";
  };
  return card("RAM blocks", {}, "<table>\n<tr><th>name</th><th>size</th></tr>\n" + rows(all.size(), 2, row) + "</table>\n");
}

std::string read_outs(const migration_record& record, const std::string& plots) {
  if (plots.empty()) return {};
  return core::formatted("<script type=\"application/json\" id=\"samples\" data-end=\"%.3f\">", milliseconds(record.end())) +
         samples_json(record) + "</script>\n<script>" + migration_script + "</script>\n";
}

}  // namespace

std::string headline(const migration_record& record) {
  if (record.failure()) return not_moved(record, *record.failure());
  return record.summary() ? moved(record, *record.summary()) : on_its_way(record);
}

std::string migration_html(const migration_record& record) {
  const auto plots = plots_of(record);
  return "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n" +
         element("title", headline(record)) + "\n<style>" + migration_style + "</style>\n</head>\n<body>\n<main>\n" +
         top(record) + tiles(record) + plots + blackout(record) + rounds(record) + facts(record) + blocks(record) +
         "<footer>Written by tidemark. Times are since the migration began.</footer>\n</main>\n" + read_outs(record, plots) +
         "</body>\n</html>\n";
}

}  // namespace tidemark::cli
