// SPDX-License-Identifier: Apache-2.0

#include "cli/migration_view.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json/serialize.hpp>
#include <cstdio>
#include <utility>

#include "cli/human.hpp"
#include "cli/migration_json.hpp"
#include "core/formatted.hpp"

namespace tidemark::cli {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds redraw_pause{100};
constexpr milliseconds json_pause{250};
constexpr milliseconds plain_pause{1000};
constexpr int plain_share = 10;  // a log of days is no longer than one of minutes: a line when a tenth more time has passed

constexpr const char* begin_line = "\r\x1b[K";

void print(std::FILE* file, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), file);
  std::fflush(file);
}

unsigned terminal_columns() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

std::string row(const std::string& name, const std::string& value) {
  return core::formatted("  %-14s", name.c_str()) + value;
}

std::string padded(const std::string& text, int width) { return core::formatted("%*s", width, text.c_str()); }

/// Nothing moves then, and a person wonders why.
bool stands(migration_phase phase) noexcept {
  return phase == migration_phase::held || phase == migration_phase::recovering;
}

/// What is out of the ordinary comes first, so that a narrow terminal shows it.
std::vector<std::string> fields_of(const migration_progress& now, const forecast& when) {
  const auto where =
      is_paused(now.phase) || now.round == 0 ? std::string(name_of(now.phase)) : "round " + std::to_string(now.round);
  std::vector<std::string> fields{core::formatted("%-13s", where.c_str())};
  if (stands(now.phase) && now.round != 0) fields.emplace_back(name_of(now.phase));
  if (now.throttle_percent != 0) fields.push_back("throttled " + std::to_string(now.throttle_percent) + " %");
  fields.push_back("remaining " + padded(human_bytes(now.remaining_bytes), 8));
  fields.push_back("dirtied " + padded(now.round > 1 ? human_rate(now.dirty_bytes_per_s) : "-", 10));
  fields.push_back("bandwidth " + padded(human_rate(now.bandwidth_bytes_per_s), 10));
  fields.push_back("ETA " + words(when));
  const auto blackout = length_of(now.predicted);
  if (blackout && *blackout != std::chrono::nanoseconds(0)) fields.push_back("blackout " + human_time(*blackout));
  return fields;
}

std::string parts_words(const blackout_parts& parts) {
  return "pause " + human_time(parts.pause) + ", sync " + human_time(parts.sync) + ", send " + human_time(parts.send) +
         ", hand over " + human_time(parts.hand_over);
}

/// Rows that say nothing are left out.
std::vector<std::pair<std::string, std::string>> rows_of(const migration_summary& done) {
  std::vector<std::pair<std::string, std::string>> rows;
  if (done.rounds == 0 && done.sent_bytes == 0) {
    rows.emplace_back("handed over", human_bytes(done.total_bytes) + " in " + human_time(done.total) + ", nothing copied");
  } else {
    rows.emplace_back("rounds", std::to_string(done.rounds) + " of pre-copy, then stop-and-copy of " +
                                    human_bytes(done.stop_and_copy_bytes));
    rows.emplace_back("sent", human_bytes(done.sent_bytes) + " in " + human_time(done.total) +
                                  (done.channels > 1 ? " over " + std::to_string(done.channels) + " channels" : ""));
  }
  if (done.zero_bytes != 0 || done.repeated_bytes != 0)
    rows.emplace_back("of these", human_bytes(done.zero_bytes) + " zero, " + human_bytes(done.repeated_bytes) + " repeated");
  if (done.wire_bytes != 0 && done.sent_bytes != 0)
    rows.emplace_back("on the wire", human_bytes(done.wire_bytes) + ", " + human_share(done.wire_bytes, done.sent_bytes) +
                                         " of what was sent");
  if (done.device_bytes != 0) rows.emplace_back("device state", human_bytes(done.device_bytes));
  if (done.recoveries != 0) rows.emplace_back("recoveries", std::to_string(done.recoveries));
  rows.emplace_back("blackout", blackout_words(done));
  return rows;
}

}  // namespace

view_output standard_output() {
  return {[](std::string_view text) { print(stdout, text); }, [](std::string_view text) { print(stderr, text); },
          isatty(STDOUT_FILENO) == 1 ? std::function<unsigned()>(terminal_columns) : nullptr};
}

std::string line_of(const migration_round& ended, std::uint64_t remaining_bytes) {
  const auto dirtied = ended.dirtied_bytes_per_s ? human_rate(*ended.dirtied_bytes_per_s) : std::string("-");
  return core::formatted("  %-13s  sent %8s in %7s  bandwidth %10s  dirtied %10s  remaining %8s", name_of(ended).c_str(),
                         human_bytes(ended.sent_bytes).c_str(), human_time(ended.time()).c_str(),
                         human_rate(ended.sent_bytes_per_s()).c_str(), dirtied.c_str(),
                         human_bytes(remaining_bytes).c_str());
}

std::string line_of(const migration_progress& now, const forecast& when, unsigned columns) {
  std::string line;
  for (const auto& field : fields_of(now, when)) {
    // The last column stays free: a cursor behind it may be on the next line already.
    if (columns != 0 && line.size() + 2 + field.size() >= columns) break;
    line += "  " + field;
  }
  return line;
}

std::string blackout_words(const migration_summary& done) {
  const auto predicted = length_of(done.predicted);
  return human_time(done.blackout.total()) + ", predicted " + (predicted ? human_time(*predicted) : "nothing") + " (" +
         parts_words(done.blackout) + ")";
}

migration_view::migration_view(bool json, std::chrono::nanoseconds downtime_target, view_output output)
    : json_(json), downtime_target_(downtime_target), output_(std::move(output)) {}

std::chrono::nanoseconds migration_view::pause(const migration_progress& now) const noexcept {
  if (json_) return json_pause;
  if (is_terminal()) return redraw_pause;
  return std::max<std::chrono::nanoseconds>(plain_pause, now.elapsed / plain_share);
}

bool migration_view::is_due(const migration_progress& now) const noexcept {
  const bool for_a_log = !json_ && !is_terminal();
  if (!shown_) return !for_a_log;
  if (now.phase != shown_->phase && (!for_a_log || stands(now.phase) || stands(shown_->phase))) return true;
  if (now.round != shown_->round && !for_a_log) return true;
  return now.elapsed - shown_->elapsed >= pause(now);
}

void migration_view::progress(const migration_progress& now) {
  const auto ended = rounds_.add(now);
  if (ended && !json_) put(line_of(*ended, now.remaining_bytes));
  const bool due = is_due(now);
  // In a log a round that begins says nothing yet.
  const bool said = ended && !json_ && !is_terminal();
  if (due || said || !shown_) shown_ = now;
  if (due && !said) show(now);
}

void migration_view::show(const migration_progress& now) {
  const auto& round = rounds_.under_way();
  const auto when = forecast_of(now, round ? now.elapsed - round->began : std::chrono::nanoseconds(0), downtime_target_);
  if (json_) return put(json_of(now, when));
  if (is_terminal()) return move_line(line_of(now, when, output_.columns()));
  put(line_of(now, when, 0));
}

void migration_view::move_line(const std::string& text) {
  output_.write(begin_line + text);
  line_open_ = true;
}

/// What moved is gone: the line of a round that ended says it better.
void migration_view::end_line() {
  if (std::exchange(line_open_, false)) output_.write(begin_line);
}

void migration_view::summary(const migration_summary& done, const own_summary& own) {
  if (json_) {
    auto event = json_of(done);
    for (const auto& field : own.fields) event.insert_or_assign(field.key(), field.value());
    return put(event);
  }
  if (const auto last = rounds_.close(done.total)) put(line_of(*last, last->left_bytes));
  for (const auto& [name, value] : rows_of(done)) put(row(name, value));
  for (const auto& [name, value] : own.rows) put(row(name, value));
  if (done.compared) put("identical");
}

void migration_view::failed(const error& failure, const boost::json::object& own) {
  if (json_) {
    auto event = json_of(failure);
    for (const auto& field : own) event.insert_or_assign(field.key(), field.value());
    return put(event);
  }
  // How far it had come stays to be read.
  if (std::exchange(line_open_, false)) output_.write("\n");
  output_.complain("tidemark: " + failure.message() + "\n");
}

void migration_view::put(const std::string& line) {
  end_line();
  output_.write(line + "\n");
}

void migration_view::put(const boost::json::object& event) { put(boost::json::serialize(event)); }

}  // namespace tidemark::cli
