// SPDX-License-Identifier: Apache-2.0
//
// What is kept of a migration, and how little of it when it is long.

#include "cli/migration_record.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <cmath>
#include <string>

#include "cli/plot_scale.hpp"
#include "cli/told_migrations.hpp"

using namespace std::chrono_literals;
using namespace tidemark;
using namespace tidemark::cli;
using std::chrono::nanoseconds;

namespace {

migration_progress report(migration_phase phase, std::uint32_t round, nanoseconds elapsed, std::uint64_t remaining_bytes,
                          std::uint64_t sent_bytes) {
  migration_progress now;
  now.phase = phase;
  now.round = round;
  now.elapsed = elapsed;
  now.remaining_bytes = remaining_bytes;
  now.sent_bytes = sent_bytes;
  return now;
}

std::string labels(const plot_scale& scale) {
  std::string text;
  for (const auto& one : scale.ticks) text += (text.empty() ? "" : ", ") + one.label;
  return text;
}

constexpr auto pre_copy = migration_phase::pre_copy;
constexpr auto still = migration_phase::stop_and_copy;

}  // namespace

BOOST_AUTO_TEST_SUITE(thinning)

BOOST_AUTO_TEST_CASE(few_are_all_kept) {
  thinned<int> values(100);
  for (int i = 0; i < 100; ++i) values.add(nanoseconds(i * i), i);
  BOOST_TEST(values.values().size() == 100u);
  BOOST_TEST(values.seen() == 100u);
}

BOOST_AUTO_TEST_CASE(many_are_bounded_with_the_first_and_the_newest) {
  for (const std::size_t most : {4U, 5U, 100U}) {
    thinned<int> values(most);
    for (int i = 0; i < 20'000; ++i) {
      values.add(nanoseconds(7 * i + 3), i);
      BOOST_REQUIRE(values.values().size() <= most);
      BOOST_REQUIRE(values.values().front() == 0);
      BOOST_REQUIRE(values.values().back() == i);
    }
    BOOST_TEST(values.seen() == 20'000u);
  }
}

BOOST_AUTO_TEST_CASE(what_is_kept_is_spread_evenly) {
  constexpr int count = 100'000;
  thinned<int> values(1000);
  for (int i = 0; i < count; ++i) values.add(nanoseconds(i), i);
  const auto& kept = values.values();
  BOOST_TEST(kept.size() >= 250u);
  for (std::size_t i = 1; i + 1 < kept.size(); ++i) BOOST_REQUIRE(kept[i] - kept[i - 1] <= count / 250);
}

BOOST_AUTO_TEST_CASE(evenly_over_time_however_unevenly_they_come) {
  thinned<int> values(100);
  for (int i = 0; i < 10'000; ++i) values.add(nanoseconds(i), 0);           // all at once
  for (int i = 1; i <= 50; ++i) values.add(nanoseconds(i * 1'000'000), i);  // then rarely
  const auto& kept = values.values();
  BOOST_TEST(kept.size() <= 100u);
  for (int i = 1; i <= 50; ++i) BOOST_TEST(std::count(kept.begin(), kept.end(), i) == 1);
}

BOOST_AUTO_TEST_CASE(all_at_one_time_and_times_that_go_back) {
  thinned<int> values(10);
  for (int i = 0; i < 1000; ++i) values.add(nanoseconds(5), i);
  BOOST_TEST(values.values().size() <= 10u);
  values.add(nanoseconds(1), 1000);
  BOOST_TEST(values.values().back() == 1000);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(record)

BOOST_AUTO_TEST_CASE(rounds_are_told_apart) {
  migration_rounds rounds;
  BOOST_TEST(!rounds.add(report(migration_phase::connecting, 0, 0ms, 0, 0)));
  BOOST_TEST(!rounds.under_way().has_value());
  BOOST_TEST(!rounds.add(report(pre_copy, 1, 10ms, 1000, 0)));
  BOOST_TEST(!rounds.add(report(pre_copy, 1, 100ms, 100, 900)));
  auto turn = report(pre_copy, 2, 110ms, 300, 1000);
  turn.dirty_bytes_per_s = 3000;
  const auto first = rounds.add(turn);
  BOOST_REQUIRE(first.has_value());
  BOOST_TEST(first->number == 1u);
  BOOST_TEST((first->began == 10ms && first->ended == 110ms));
  BOOST_TEST(first->dirty_bytes == 1000u);
  BOOST_TEST(first->sent_bytes == 900u);
  BOOST_TEST(first->left_bytes == 100u);
  BOOST_TEST(first->dirtied_bytes_per_s.value() == 3000u);
  BOOST_TEST(first->sent_bytes_per_s() == 9000u);
}

BOOST_AUTO_TEST_CASE(a_round_that_only_decided_is_none) {
  migration_rounds rounds;
  (void)rounds.add(report(pre_copy, 1, 0ms, 1000, 0));
  (void)rounds.add(report(pre_copy, 1, 90ms, 0, 1000));
  BOOST_TEST(rounds.add(report(pre_copy, 2, 100ms, 50, 1000)).has_value());
  BOOST_TEST(!rounds.add(report(still, 2, 101ms, 50, 1000)).has_value());
}

BOOST_AUTO_TEST_CASE(the_stop_and_copy_goes_on_through_a_recovery) {
  migration_rounds rounds;
  (void)rounds.add(report(pre_copy, 1, 0ms, 1000, 0));
  (void)rounds.add(report(pre_copy, 1, 90ms, 0, 1000));
  const auto first = rounds.add(report(still, 1, 100ms, 0, 1000));
  BOOST_TEST(first.has_value());
  BOOST_TEST(!first->dirtied_bytes_per_s.has_value());
  BOOST_TEST(!rounds.add(report(still, 2, 101ms, 70, 1000)));  // only now it is known what was dirtied last
  BOOST_TEST(!rounds.add(report(migration_phase::recovering, 2, 110ms, 60, 1010)));
  BOOST_TEST(!rounds.add(report(still, 2, 120ms, 60, 1010)));
  BOOST_TEST(!rounds.add(report(migration_phase::handed_over, 2, 130ms, 0, 1070)));
  const auto last = rounds.close(135ms);
  BOOST_REQUIRE(last.has_value());
  BOOST_TEST(last->stop_and_copy);
  BOOST_TEST(last->dirty_bytes == 70u);
  BOOST_TEST(last->sent_bytes == 70u);
  BOOST_TEST((last->time() == 35ms));
  BOOST_TEST(!rounds.close(140ms).has_value());
}

BOOST_AUTO_TEST_CASE(phases_recoveries_and_throttling_are_noted) {
  migration_record record;
  record.add(report(migration_phase::connecting, 0, 0ms, 0, 0));
  record.add(report(pre_copy, 1, 5ms, 100, 0));
  record.add(report(migration_phase::held, 1, 20ms, 90, 10));
  record.add(report(pre_copy, 1, 50ms, 90, 10));
  auto anew = report(pre_copy, 1, 60ms, 50, 50);
  anew.recoveries = 1;
  anew.throttle_percent = 40;
  record.add(anew);
  record.fail(told::broken());
  BOOST_REQUIRE(record.phases().size() == 4u);
  const auto& held = record.phases()[2];
  BOOST_TEST((held.phase == migration_phase::held && held.began == 20ms && held.ended == 50ms));
  BOOST_TEST((record.phases().back().ended == 60ms));
  BOOST_REQUIRE(record.recoveries().size() == 1u);
  BOOST_TEST((record.recoveries().front() == 60ms));
  BOOST_TEST(record.throttle_most_percent() == 40u);
  BOOST_TEST(record.rounds().size() == 1u);
  BOOST_TEST(record.failure()->message() == told::broken().message());
}

BOOST_AUTO_TEST_CASE(the_end_is_the_summary_s) {
  auto record = told::good();
  BOOST_TEST((record.end() == record.summary()->total));
  BOOST_TEST((record.rounds().back().ended == record.end()));
  BOOST_TEST(record.total_bytes() == 8 * told::gib);
}

BOOST_AUTO_TEST_CASE(a_long_one_is_bounded_and_keeps_the_height_of_every_tooth) {
  told::plan what;
  what.step = 100us;
  const auto record = told::of(what);
  BOOST_TEST(record.samples().size() <= migration_record::samples_default);
  BOOST_TEST((record.samples().back().elapsed == record.end()));
  BOOST_REQUIRE(record.rounds().size() >= 2u);
  BOOST_TEST(record.rounds()[0].dirty_bytes == 8 * told::gib);
  BOOST_TEST(record.rounds()[0].left_bytes == 0u);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(scales)

BOOST_AUTO_TEST_CASE(bytes) {
  BOOST_TEST(labels(bytes_scale(8 * told::gib)) == "0, 2 GiB, 4 GiB, 6 GiB, 8 GiB");
  BOOST_TEST(labels(bytes_scale(1288 * told::mib, "/s")) == "0, 0.5 GiB/s, 1 GiB/s, 1.5 GiB/s");
  BOOST_TEST(labels(bytes_scale(700 * told::mib)) == "0, 256 MiB, 512 MiB, 768 MiB");
  BOOST_TEST(labels(bytes_scale(0)) == "0, 1 B, 2 B, 3 B");
  for (std::uint64_t most = 1; most < 1ull << 60; most = most * 5 / 3 + 1) {
    const auto scale = bytes_scale(most);
    BOOST_REQUIRE(scale.top >= static_cast<double>(most));
    BOOST_REQUIRE(scale.ticks.size() <= 5u);
    BOOST_REQUIRE(scale.ticks.back().at == 1);
  }
}

BOOST_AUTO_TEST_CASE(times) {
  BOOST_TEST(labels(time_scale(2310ms)) == "0, 0.5 s, 1 s, 1.5 s, 2 s");
  BOOST_TEST(labels(time_scale(14ms)) == "0, 2 ms, 4 ms, 6 ms, 8 ms, 10 ms, 12 ms, 14 ms");
  BOOST_TEST(labels(time_scale(25min)) == "0, 5 min, 10 min, 15 min, 20 min, 25 min");
  BOOST_TEST(labels(time_scale(5h)) == "0, 1 h, 2 h, 3 h, 4 h, 5 h");
  for (nanoseconds end = 0ns; end < 24h * 365; end = end * 5 / 3 + 1us) {
    const auto scale = time_scale(end);
    BOOST_REQUIRE(scale.ticks.size() >= 2u);
    BOOST_REQUIRE(scale.ticks.size() <= 9u);
    BOOST_REQUIRE(scale.ticks.back().at <= 1);
  }
}

BOOST_AUTO_TEST_SUITE_END()
