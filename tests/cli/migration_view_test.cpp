// SPDX-License-Identifier: Apache-2.0
//
// What is shown of a migration while it runs: to a log, on a terminal, as JSON; and the forecast in it.

#include "cli/migration_view.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "cli/told_migrations.hpp"

using namespace std::chrono_literals;
using namespace tidemark;
using namespace tidemark::cli;
using told::gib;
using told::mib;
namespace json = boost::json;

namespace {

/// What came out.
struct screen {
  std::string out;
  std::string err;
  unsigned columns = 0;

  view_output log() {
    return {[this](std::string_view text) { out += text; }, [this](std::string_view text) { err += text; }, nullptr};
  }
  view_output terminal() {
    auto output = log();
    output.columns = [this] { return columns; };
    return output;
  }
  std::vector<std::string> lines() const {
    std::vector<std::string> all;
    std::istringstream text(out);
    for (std::string line; std::getline(text, line);) all.push_back(line);
    return all;
  }
};

migration_progress in_round(std::uint32_t round, std::chrono::nanoseconds elapsed, std::uint64_t remaining_bytes,
                            std::uint64_t sent_bytes) {
  migration_progress now;
  now.phase = migration_phase::pre_copy;
  now.round = round;
  now.total_bytes = gib;
  now.elapsed = elapsed;
  now.remaining_bytes = remaining_bytes;
  now.sent_bytes = sent_bytes;
  now.bandwidth_bytes_per_s = 400 * mib;
  if (round > 1) now.dirty_bytes_per_s = 80 * mib;
  return now;
}

migration_progress stopped(std::chrono::nanoseconds elapsed, std::uint64_t remaining_bytes, std::uint64_t sent_bytes) {
  auto now = in_round(3, elapsed, remaining_bytes, sent_bytes);
  now.phase = migration_phase::stop_and_copy;
  return now;
}

migration_summary short_summary() {
  migration_summary done;
  done.rounds = 2;
  done.channels = 4;
  done.total_bytes = gib;
  done.sent_bytes = 1264 * mib;
  done.zero_bytes = 100 * mib;
  done.repeated_bytes = 20 * mib;
  done.wire_bytes = 632 * mib;
  done.device_bytes = 5 * mib;
  done.stop_and_copy_bytes = 40 * mib;
  done.total = 3200ms;
  done.predicted = {1ms, 2ms, 100ms, 2ms};
  done.blackout = {1ms, 2ms, 97ms, 3ms};
  done.compared = true;
  return done;
}

void show_all(migration_view& view) {
  migration_progress connecting;
  view.progress(connecting);
  view.progress(in_round(1, 10ms, gib, 0));
  view.progress(in_round(1, 1500ms, 424 * mib, 600 * mib));
  view.progress(in_round(1, 2490ms, 0, gib));
  view.progress(in_round(2, 2510ms, 200 * mib, gib));
  view.progress(in_round(2, 3010ms, 0, 1224 * mib));
  view.progress(in_round(3, 3020ms, 40 * mib, 1224 * mib));
  view.progress(stopped(3100ms, 40 * mib, 1224 * mib));
  view.progress(stopped(3200ms, 0, 1264 * mib));
  view.summary(short_summary());
}

std::vector<json::object> events(const screen& shown) {
  std::vector<json::object> all;
  for (const auto& line : shown.lines()) all.push_back(json::parse(line).as_object());
  return all;
}

forecast ahead(std::uint64_t remaining, std::uint64_t dirtied, std::uint64_t bandwidth, std::uint32_t round = 2) {
  auto now = in_round(round, 1s, remaining, gib);
  now.dirty_bytes_per_s = dirtied;
  now.bandwidth_bytes_per_s = bandwidth;
  return forecast_of(now, 0ns, 300ms);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(migration_view_shows)

BOOST_AUTO_TEST_CASE(lines_for_a_log) {
  screen shown;
  migration_view view(false, 300ms, shown.log());
  show_all(view);
  const auto expected =
      "  round 1        remaining  424 MiB  dirtied          -  bandwidth  400 MiB/s  ETA 1.06 s or more\n"
      "  round 1        sent 1.00 GiB in  2.50 s  bandwidth  410 MiB/s  dirtied 80.0 MiB/s  remaining  200 MiB\n"
      "  round 2        sent  200 MiB in  510 ms  bandwidth  392 MiB/s  dirtied 80.0 MiB/s  remaining 40.0 MiB\n"
      "  stop-and-copy  sent 40.0 MiB in  100 ms  bandwidth  400 MiB/s  dirtied          -  remaining      0 B\n"
      "  rounds        2 of pre-copy, then stop-and-copy of 40.0 MiB\n"
      "  sent          1.23 GiB in 3.20 s over 4 channels\n"
      "  of these      100 MiB zero, 20.0 MiB repeated\n"
      "  on the wire   632 MiB, 50 % of what was sent\n"
      "  device state  5.00 MiB\n"
      "  blackout      103 ms, predicted 105 ms (pause 1.0 ms, sync 2.0 ms, send 97 ms, hand over 3.0 ms)\n"
      "identical\n";
  BOOST_TEST(shown.out == expected);
  BOOST_TEST(shown.err.empty());
}

BOOST_AUTO_TEST_CASE(memory_that_is_handed_over_is_no_traffic) {
  screen shown;
  migration_view view(false, 300ms, shown.log());
  migration_summary done;
  done.channels = 1;
  done.total_bytes = gib;
  done.wire_bytes = 1200;
  done.total = 30ms;
  view.summary(done);
  BOOST_TEST(shown.out.starts_with("  handed over   1.00 GiB in 30 ms, nothing copied\n  blackout "), shown.out);
}

BOOST_AUTO_TEST_CASE(a_log_tells_when_nothing_moves) {
  screen shown;
  migration_view view(false, 300ms, shown.log());
  view.progress(in_round(1, 10ms, gib, 0));
  for (const auto phase : {migration_phase::held, migration_phase::recovering, migration_phase::pre_copy}) {
    auto now = in_round(1, 20ms, gib, 0);
    now.phase = phase;
    view.progress(now);
  }
  BOOST_REQUIRE(shown.lines().size() == 3u);
  BOOST_TEST(shown.lines()[0].starts_with("  round 1        held  remaining"));
  BOOST_TEST(shown.lines()[1].starts_with("  round 1        recovering  remaining"));
  BOOST_TEST(shown.lines()[2].starts_with("  round 1        remaining"));
}

BOOST_AUTO_TEST_CASE(a_log_of_days_is_short) {
  screen shown;
  migration_view view(false, 300ms, shown.log());
  for (auto elapsed = 0ms; elapsed < 48h; elapsed += 500ms) view.progress(in_round(1, elapsed, gib, 0));
  BOOST_TEST(shown.lines().size() > 50u);
  BOOST_TEST(shown.lines().size() < 200u);
}

BOOST_AUTO_TEST_CASE(one_line_moves_on_a_terminal) {
  screen shown;
  migration_view view(false, 300ms, shown.terminal());
  view.progress(in_round(1, 0ms, gib, 0));
  view.progress(in_round(1, 50ms, gib - 20 * mib, 20 * mib));  // too soon
  view.progress(in_round(1, 100ms, gib - 40 * mib, 40 * mib));
  const std::string begin = "\r\x1b[K";
  BOOST_TEST(shown.out == begin + line_of(in_round(1, 0ms, gib, 0), ahead(gib, 0, 400 * mib, 1), 0) + begin +
                              line_of(in_round(1, 0ms, gib - 40 * mib, 0), ahead(gib - 40 * mib, 0, 400 * mib, 1), 0));
  shown.out.clear();
  view.progress(in_round(2, 2500ms, 200 * mib, gib));
  BOOST_TEST(shown.out.starts_with(begin + "  round 1        sent   40.0 MiB") == false);
  BOOST_TEST(shown.out.starts_with(begin + "  round 1        sent 40.0 MiB in  2.50 s"));
  BOOST_TEST(shown.out.find("\n" + begin + "  round 2        remaining  200 MiB") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_narrow_terminal_loses_whole_fields_from_the_right) {
  auto now = in_round(2, 1s, 200 * mib, gib);
  now.throttle_percent = 40;
  now.predicted = {1ms, 2ms, 500ms, 2ms};
  const auto when = ahead(200 * mib, 80 * mib, 400 * mib);
  const std::string all =
      "  round 2        throttled 40 %  remaining  200 MiB  dirtied 80.0 MiB/s  bandwidth  400 MiB/s  ETA 600 ms  blackout "
      "505 ms";
  BOOST_TEST(line_of(now, when, 0) == all);
  BOOST_TEST(line_of(now, when, 200) == all);
  for (unsigned columns = 1; columns < 130; ++columns) {
    const auto line = line_of(now, when, columns);
    BOOST_REQUIRE(line.size() < columns);
    BOOST_REQUIRE(all.starts_with(line));
    BOOST_REQUIRE((line.size() == all.size() || all.substr(line.size(), 2) == "  "));
  }
  BOOST_TEST(line_of(now, when, 80) == "  round 2        throttled 40 %  remaining  200 MiB  dirtied 80.0 MiB/s");
}

BOOST_AUTO_TEST_CASE(a_failure_is_one_line_to_standard_error) {
  screen shown;
  migration_view view(false, 300ms, shown.terminal());
  view.progress(in_round(1, 0ms, gib, 0));
  view.failed(told::broken());
  BOOST_TEST(shown.out.ends_with(" or more\n"));
  BOOST_TEST(shown.err == "tidemark: " + told::broken().message() + "\n");
}

BOOST_AUTO_TEST_CASE(json_tells_every_turn_and_every_field) {
  screen shown;
  migration_view view(true, 300ms, shown.log());
  show_all(view);
  const auto told = events(shown);
  BOOST_REQUIRE(told.size() == 9u);  // all but the one that follows the last too soon
  const auto& round_2 = told[4];
  BOOST_TEST(round_2.at("event").as_string() == "progress");
  BOOST_TEST(round_2.at("phase").as_string() == "pre-copy");
  BOOST_TEST(round_2.at("round").to_number<int>() == 2);
  BOOST_TEST(round_2.at("remaining_bytes").to_number<std::uint64_t>() == 200 * mib);
  BOOST_TEST(round_2.at("elapsed_ms").to_number<double>() == 2510);
  BOOST_TEST(round_2.at("eta_ms").to_number<double>() == 600);
  for (const auto* name :
       {"total_bytes", "sent_bytes", "zero_bytes", "repeated_bytes", "wire_bytes", "device_bytes", "dirty_bytes_per_s",
        "bandwidth_bytes_per_s", "throttle_percent", "recoveries", "predicted_blackout_ms", "predicted_blackout", "paused"})
    BOOST_TEST(round_2.contains(name), name);
  BOOST_TEST(told.front().at("eta_ms").is_null());

  const auto& done = told.back();
  BOOST_TEST(done.at("event").as_string() == "summary");
  BOOST_TEST(done.at("total_ms").to_number<double>() == 3200);
  BOOST_TEST(done.at("bytes").to_number<std::uint64_t>() == gib);
  BOOST_TEST(done.at("blackout_ms").to_number<double>() == 103);
  BOOST_TEST(done.at("predicted_blackout_ms").to_number<double>() == 105);
  BOOST_TEST(done.at("blackout").at("hand_over_ms").to_number<double>() == 3);
  BOOST_TEST(done.at("predicted_blackout").at("send_ms").to_number<double>() == 100);
  for (const auto* name : {"sent_bytes", "wire_bytes", "zero_bytes", "repeated_bytes", "device_bytes", "rounds", "channels",
                           "recoveries", "stop_and_copy_bytes"})
    BOOST_TEST(done.contains(name), name);
}

BOOST_AUTO_TEST_CASE(json_of_a_failure) {
  screen shown;
  migration_view view(true, 300ms, shown.log());
  view.failed(told::broken(), {{"error", "as the program calls it"}});
  const auto said = events(shown).at(0);
  BOOST_TEST(said.at("event").as_string() == "failed");
  BOOST_TEST(said.at("why").as_string() == told::broken().message());
  BOOST_TEST(said.at("guest").as_string() == told::broken().undone);
  BOOST_TEST(said.at("error").as_string() == "as the program calls it");
  BOOST_TEST(shown.err.empty());
}

BOOST_AUTO_TEST_CASE(a_program_s_own_rows_and_fields) {
  own_summary own{{{"dirtied", "a lot"}}, {{"identical", true}, {"rounds", 7}}};
  screen log;
  migration_view(false, 300ms, log.log()).summary(short_summary(), own);
  const auto lines = log.lines();
  BOOST_REQUIRE(lines.size() >= 2u);
  BOOST_TEST(lines[lines.size() - 2] == "  dirtied       a lot");
  BOOST_TEST(lines.back() == "identical");
  screen events_shown;
  migration_view(true, 300ms, events_shown.log()).summary(short_summary(), own);
  const auto said = events(events_shown).at(0);
  BOOST_TEST(said.at("identical").as_bool());
  BOOST_TEST(said.at("rounds").to_number<int>() == 7);
}

BOOST_AUTO_TEST_CASE(a_prediction_without_end_is_none) {
  auto done = short_summary();
  done.predicted.send = std::chrono::nanoseconds::max();
  BOOST_TEST(blackout_words(done).starts_with("103 ms, predicted nothing"));
  screen shown;
  migration_view(true, 300ms, shown.log()).summary(done);
  const auto said = events(shown).at(0);
  BOOST_TEST(said.at("predicted_blackout_ms").is_null());
  BOOST_TEST(said.at("predicted_blackout").at("send_ms").is_null());
  BOOST_TEST(said.at("predicted_blackout").at("pause_ms").to_number<double>() == 1);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(forecasts)

BOOST_AUTO_TEST_CASE(in_words) {
  BOOST_TEST(words(ahead(200 * mib, 80 * mib, 0)) == "-");
  BOOST_TEST(words(ahead(800 * mib, 0, 400 * mib, 1)) == "2.00 s or more");
  BOOST_TEST(words(ahead(800 * mib, 400 * mib, 400 * mib)) == "never at this rate");
  BOOST_TEST(words(ahead(800 * mib, 500 * mib, 400 * mib)) == "never at this rate");
  // What is dirtied while the last of it is sent fits the target: it will be over, however fast the guest is.
  BOOST_TEST(words(ahead(80 * mib, 500 * mib, 400 * mib)) == "450 ms");
}

/// The closed form against rounds made one by one.
BOOST_AUTO_TEST_CASE(as_rounds_would_go) {
  for (const std::uint64_t dirtied : {0 * mib, 1 * mib, 80 * mib, 300 * mib, 399 * mib}) {
    double left_s = 20;
    double round_s = 20 * static_cast<double>(dirtied) / (400.0 * mib);
    for (;; round_s *= static_cast<double>(dirtied) / (400.0 * mib)) {
      left_s += round_s;
      if (round_s <= 0.3) break;
    }
    const auto when = ahead(8000 * mib, dirtied, 400 * mib);
    BOOST_TEST(std::chrono::duration<double>(when.left).count() == left_s, boost::test_tools::tolerance(1e-6));
  }
}

BOOST_AUTO_TEST_CASE(a_round_that_is_under_way_has_left_some_already) {
  const auto now = in_round(2, 3s, 400 * mib, gib);
  // 1 s to go; 4 s of dirtying are 0.8 s of sending, those 0.16 s.
  BOOST_TEST(words(forecast_of(now, 3s, 300ms)) == "1.96 s");
}

BOOST_AUTO_TEST_CASE(what_is_left_while_the_guest_stands_still) {
  BOOST_TEST(words(forecast_of(stopped(3s, 40 * mib, gib), 0ns, 300ms)) == "100 ms");
}

BOOST_AUTO_TEST_CASE(a_guest_that_is_hardly_slower_is_not_forever) {
  const auto when = ahead(1ull << 50, 399 * mib, 400 * mib);
  BOOST_TEST((when.is == forecast::kind::about));
  BOOST_TEST((when.left > 100h));
}

BOOST_AUTO_TEST_SUITE_END()
