// SPDX-License-Identifier: Apache-2.0

#include "cli/demo_view.hpp"

#include <unistd.h>

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstdio>

#include "cli/human.hpp"
#include "core/formatted.hpp"

namespace tidemark::cli {

namespace json = boost::json;

namespace {

bool is_paused(const migration_progress& now) noexcept { return now.phase == migration_phase::stop_and_copy; }

constexpr std::chrono::milliseconds redraw_pause{100};
constexpr std::chrono::milliseconds json_pause{250};
constexpr std::chrono::milliseconds plain_pause{1000};

void put(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

void put(const json::object& event) { put(json::serialize(event)); }

void put_row(const char* name, const std::string& value) { put(core::formatted("  %-14s", name) + value); }

std::string progress_text(const migration_progress& now) {
  const auto round = is_paused(now) ? std::string("stop-and-copy") : "round " + std::to_string(now.round);
  const auto dirtied = now.round > 1 ? human_bytes(now.dirty_bytes_per_s) + "/s" : std::string("-");
  return core::formatted("  %-13s  sent %8s  dirtied %10s  bandwidth %10s  remaining %8s", round.c_str(),
                         human_bytes(now.sent_bytes).c_str(), dirtied.c_str(),
                         (human_bytes(now.bandwidth_bytes_per_s) + "/s").c_str(), human_bytes(now.remaining_bytes).c_str());
}

json::object progress_event(const migration_progress& now) {
  return {{"event", "progress"},
          {"round", now.round},
          {"paused", is_paused(now)},
          {"sent_bytes", now.sent_bytes},
          {"remaining_bytes", now.remaining_bytes},
          {"total_bytes", now.total_bytes},
          {"dirty_bytes_per_s", now.dirty_bytes_per_s},
          {"bandwidth_bytes_per_s", now.bandwidth_bytes_per_s},
          {"elapsed_ms", milliseconds(now.elapsed)}};
}

/// Those that told something, most first: "4.1 MiB pagemap, 2 MiB device log".
std::string told_by(const dirty_statistics& dirty) {
  auto sources = dirty.sources;
  std::sort(sources.begin(), sources.end(), [](const auto& a, const auto& b) { return a.told_pages > b.told_pages; });
  std::string text;
  for (const auto& one : sources)
    if (one.told_pages != 0) text += (text.empty() ? "" : ", ") + human_bytes(one.told_bytes()) + " " + one.name;
  return text.empty() ? "nobody" : text;
}

json::object sources_event(const dirty_statistics& dirty) {
  json::object sources;
  for (const auto& one : dirty.sources) sources[one.name] = one.told_bytes();
  return sources;
}

json::object summary_event(const source_outcome& source, const std::optional<destination_outcome>& destination) {
  const auto& done = source.migration;
  json::object event{{"event", "summary"},
                     {"rounds", done.rounds},
                     {"sent_bytes", done.sent_bytes},
                     {"stop_and_copy_bytes", done.stop_and_copy_bytes},
                     {"total_ms", milliseconds(done.total)},
                     {"blackout_ms", milliseconds(done.blackout.total())},
                     {"predicted_blackout_ms", milliseconds(done.predicted.total())},
                     {"cpu_dirtied_bytes", source.activity.cpu_pages * page_bytes},
                     {"device_dirtied_bytes", source.activity.device_pages * page_bytes},
                     {"told_bytes_by", sources_event(source.dirty)},
                     {"refused_dma", source.activity.refused_dma},
                     {"region_changes", source.activity.region_changes},
                     {"source_memory_peak_bytes", source.memory_peak_bytes},
                     {"identical", done.compared}};
  if (destination) event["destination_memory_peak_bytes"] = destination->memory_peak_bytes;
  return event;
}

}  // namespace

demo_view::demo_view(bool json) : json_(json), terminal_(!json && isatty(STDOUT_FILENO) == 1) {}

void demo_view::begin(const demo_request& request, unsigned group) {
  const auto& chosen = request.config;
  const auto* kernel = chosen.kernel == kernel_choice::model ? "model" : "linux";
  if (json_) {
    put(json::object{{"event", "begin"},
                     {"memory_bytes", chosen.memory_bytes},
                     {"blocks", chosen.blocks},
                     {"kernel", kernel},
                     {"device", request.device},
                     {"group", group}});
    return;
  }
  put("Migrating " + human_bytes(chosen.memory_bytes) + " in " + std::to_string(chosen.blocks) + " RAM blocks; " +
      request.device + " (group " + std::to_string(group) + ", " + kernel + " kernel) dirties " +
      human_bytes(chosen.device_rate_bytes) + "/s, a CPU " + human_bytes(chosen.cpu_rate_bytes) + "/s");
}

bool demo_view::due(const migration_progress& now) {
  const auto pause = json_ ? json_pause : terminal_ ? redraw_pause : plain_pause;
  const auto time = std::chrono::steady_clock::now();
  const bool turned = now.round != shown_round_ || is_paused(now) != shown_paused_;
  if (!turned && time - shown_at_ < pause) return false;
  shown_at_ = time;
  return true;
}

void demo_view::progress(const migration_progress& now) {
  const bool turned = now.round != shown_round_ || is_paused(now) != shown_paused_;
  if (turned && !json_ && last_.sent_bytes != shown_sent_bytes_) {
    show_line(last_);  // how the last round ended; one that only decided for the switchover sent nothing
    leave_line();
    shown_sent_bytes_ = last_.sent_bytes;
  }
  last_ = now;
  if (!due(now)) return;
  shown_round_ = now.round;
  shown_paused_ = is_paused(now);
  if (json_) return put(progress_event(now));
  if (!terminal_ && turned) return;  // a round that begins says nothing yet
  show_line(now);
  if (!terminal_) leave_line();
}

void demo_view::show_line(const migration_progress& now) {
  if (terminal_) std::fputs("\r\x1b[K", stdout);
  std::fputs(progress_text(now).c_str(), stdout);
  std::fflush(stdout);
  line_open_ = true;
}

void demo_view::leave_line() {
  if (line_open_) std::fputs("\n", stdout);
  line_open_ = false;
}

void demo_view::summary(const source_outcome& source, const std::optional<destination_outcome>& destination) {
  if (json_) return put(summary_event(source, destination));
  show_line(last_);
  leave_line();
  const auto& done = source.migration;
  put_row("rounds",
          std::to_string(done.rounds) + " of pre-copy, then stop-and-copy of " + human_bytes(done.stop_and_copy_bytes));
  put_row("sent", human_bytes(done.sent_bytes) + " in " + human_time(done.total));
  put_row("dirtied", human_bytes(source.activity.cpu_pages * page_bytes) + " by the CPU, " +
                         human_bytes(source.activity.device_pages * page_bytes) + " by the device (" +
                         std::to_string(source.activity.refused_dma) + " writes refused: region away)");
  put_row("told by", told_by(source.dirty));
  put_row("regions", std::to_string(source.activity.region_changes) + " added or removed meanwhile");
  put_row("blackout", human_time(done.blackout.total()) + ", predicted " + human_time(done.predicted.total()));
  put_row("peak memory", "source " + human_bytes(source.memory_peak_bytes) +
                             (destination ? ", destination " + human_bytes(destination->memory_peak_bytes) : std::string()));
  put("identical");
}

void demo_view::listening(const std::string& host, unsigned port) const {
  const auto address = host + ":" + std::to_string(port);
  if (json_) return put(json::object{{"event", "listening"}, {"address", address}});
  put("Listening at " + address + "; start the source with: tidemark demo --role source --address " + address);
}

void demo_view::received(const destination_outcome& outcome) const {
  if (json_)
    return put(json::object{{"event", "received"},
                            {"received_bytes", outcome.received_bytes},
                            {"memory_peak_bytes", outcome.memory_peak_bytes}});
  put("Received " + human_bytes(outcome.received_bytes) + "; peak memory " + human_bytes(outcome.memory_peak_bytes));
  put("identical");
}

void demo_view::failed(const error& failure) const {
  if (json_) put(json::object{{"event", "failed"}, {"error", failure.message()}});
  if (line_open_) std::fputs("\n", stdout);
  std::fflush(stdout);
  if (!json_) std::fprintf(stderr, "tidemark: %s\n", failure.message().c_str());
}

}  // namespace tidemark::cli
