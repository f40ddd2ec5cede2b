// SPDX-License-Identifier: Apache-2.0

#include "migrate/pace.hpp"

#include <boost/test/unit_test.hpp>

#include <vector>

namespace tidemark::migrate {

namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t mb = 1'000'000;
const pace::time_point start(1h);

/// A guest whose rounds are told one after the other: each takes what sending it takes.
class told {
 public:
  explicit told(const migration_options& options) : of(options) {}

  /// This much is dirty, and asking for it took so long.
  void round(std::uint64_t dirty_bytes, std::chrono::nanoseconds sync = 0ns) {
    of.round_came(++number_, dirty_bytes, now, now + sync);
    now += sync;
  }
  void send(std::uint64_t bytes, std::uint64_t bytes_per_s) {
    of.sending_began(now);
    now += std::chrono::nanoseconds(bytes * 1'000'000'000 / bytes_per_s);
    of.arrived(bytes, now);
  }

  pace of;
  pace::time_point now = start;

 private:
  std::uint32_t number_ = 0;
};

bool near(double seen, double wanted) { return seen > wanted * 0.99 && seen < wanted * 1.01; }
double in_ms(std::chrono::nanoseconds time) { return std::chrono::duration<double, std::milli>(time).count(); }

}  // namespace

BOOST_AUTO_TEST_SUITE(pace_of_a_migration)

BOOST_AUTO_TEST_CASE(the_bandwidth_is_what_arrived_while_something_was_sent) {
  told guest({});
  BOOST_TEST(guest.of.bandwidth_bytes_per_s() == 0u);
  guest.send(100 * mb, 1000 * mb);
  BOOST_TEST(near(static_cast<double>(guest.of.bandwidth_bytes_per_s()), 1e9));
  guest.now += 10s;  // nobody sends meanwhile
  guest.send(100 * mb, 1000 * mb);
  BOOST_TEST(near(static_cast<double>(guest.of.bandwidth_bytes_per_s()), 1e9));
}

BOOST_AUTO_TEST_CASE(the_bandwidth_is_that_of_the_last_second) {
  told guest({});
  for (int i = 0; i != 50; ++i) guest.send(10 * mb, 100 * mb);
  BOOST_TEST(near(static_cast<double>(guest.of.bandwidth_bytes_per_s()), 1e8));
  for (int i = 0; i != 20; ++i) guest.send(10 * mb, 50 * mb);
  BOOST_TEST(near(static_cast<double>(guest.of.bandwidth_bytes_per_s()), 5e7));
}

BOOST_AUTO_TEST_CASE(bytes_that_arrive_at_once_are_no_endless_bandwidth) {
  told guest({});
  guest.of.sending_began(guest.now);
  guest.of.arrived(mb, guest.now);
  BOOST_TEST(guest.of.bandwidth_bytes_per_s() == 0u);
  guest.of.arrived(mb, guest.now - 1s);  // a clock that was read in another order
  BOOST_TEST(guest.of.bandwidth_bytes_per_s() == 0u);
}

BOOST_AUTO_TEST_CASE(the_first_round_is_no_rate_and_each_later_one_counts_half) {
  told guest({});
  guest.round(1000 * mb);
  BOOST_TEST(guest.of.dirty_bytes_per_s() == 0u);
  guest.now += 1s;
  guest.round(100 * mb);
  BOOST_TEST(guest.of.dirty_bytes_per_s() == 100 * mb);
  guest.now += 1s;
  guest.round(20 * mb);
  BOOST_TEST(guest.of.dirty_bytes_per_s() == 60 * mb);
}

BOOST_AUTO_TEST_CASE(the_blackout_is_predicted_from_its_parts) {
  told guest({});
  guest.round(100 * mb);
  guest.send(100 * mb, 100 * mb);
  guest.round(10 * mb, 10ms);  // 10 MB in a second, taken in within 10 ms
  guest.of.touched(2ms);
  const auto parts = guest.of.predict(10 * mb, 5 * mb);
  BOOST_TEST(near(in_ms(parts.sync), 10));
  BOOST_TEST(near(in_ms(parts.send), 100 + 1 + 50 + 2));  // the pages, what comes meanwhile, the devices, the answer
  BOOST_TEST(near(in_ms(parts.hand_over), 4));
  BOOST_TEST(near(in_ms(parts.total()), 167));
}

BOOST_AUTO_TEST_CASE(what_cannot_be_sent_is_a_blackout_without_an_end_and_no_overflow) {
  told guest({.downtime_target = 1h});
  guest.round(100 * mb);
  guest.round(100 * mb);
  BOOST_TEST((guest.of.predict(100 * mb, 0).total() > 24h));
  BOOST_TEST((guest.of.predict(~std::uint64_t{0}, 0).total() > 24h));
  BOOST_TEST(!guest.of.should_switch(100 * mb, 0));
  BOOST_TEST(in_ms(guest.of.predict(0, 0).total()) == 0);
}

BOOST_AUTO_TEST_CASE(the_guest_is_never_paused_in_the_first_round) {
  told guest({.downtime_target = 1h});
  guest.round(0);
  BOOST_TEST(!guest.of.should_switch(0, 0));
}

BOOST_AUTO_TEST_CASE(the_guest_is_paused_when_the_rest_fits) {
  for (const bool fits : {true, false}) {
    told guest({.downtime_target = 100ms});
    guest.round(100 * mb);
    guest.send(100 * mb, 100 * mb);
    const auto left = fits ? 9 * mb : 11 * mb;
    guest.now += 100ms;
    guest.round(left);
    BOOST_TEST(guest.of.dirty_bytes_per_s() > 5 * mb);
    for (int i = 0; i != 20; ++i) {  // it dirties as fast as it is sent: further rounds gain nothing
      guest.send(left, 100 * mb);
      guest.round(left);
    }
    BOOST_TEST(guest.of.should_switch(left, 0) == fits);
    BOOST_TEST(!guest.of.should_switch(left, 5 * mb));  // with devices' state it does not
  }
}

BOOST_AUTO_TEST_CASE(a_blackout_that_fits_is_made_shorter_while_rounds_halve_it_but_not_for_ever) {
  told guest({.downtime_target = 1000ms});
  guest.round(1000 * mb);
  guest.send(1000 * mb, 100 * mb);
  std::uint64_t left = 64 * mb;
  unsigned further = 0;
  for (;; ++further) {
    guest.round(left);
    if (guest.of.should_switch(left, 0)) break;
    guest.send(left, 100 * mb);
    left /= 4;
  }
  BOOST_TEST(further >= 3u);
  BOOST_TEST(left <= mb);  // some 2 ms or less

  told endless({.downtime_target = 10'000ms});
  endless.round(1000 * mb);
  endless.send(1000 * mb, 100 * mb);
  for (further = 0; further != 100; ++further) {  // says that it will be halved, and never is
    endless.now += 10s;
    endless.round(100 * mb);
    if (endless.of.should_switch(100 * mb, 0)) break;
    endless.send(100 * mb, 100 * mb);
  }
  BOOST_TEST(further == 8u);
}

BOOST_AUTO_TEST_CASE(nothing_left_or_the_last_round_is_a_switch) {
  told guest({.downtime_target = 0ms, .rounds_max = 3});
  guest.round(100 * mb);
  guest.round(50 * mb);
  BOOST_TEST(guest.of.should_switch(0, 0));
  BOOST_TEST(!guest.of.should_switch(50 * mb, 0));
  guest.round(50 * mb);
  BOOST_TEST(!guest.of.should_switch(50 * mb, 0));
  guest.round(50 * mb);  // three have been sent
  BOOST_TEST(guest.of.should_switch(50 * mb, 0));
}

BOOST_AUTO_TEST_CASE(a_guest_that_dirties_faster_than_is_sent_is_slowed_down_more_and_more) {
  told guest({});
  guest.round(1000 * mb);
  std::vector<unsigned> asked;
  for (int i = 0; i != 16; ++i) {
    asked.push_back(guest.of.throttle_percent());
    guest.send(1000 * mb, 100 * mb);
    guest.round(1000 * mb);
  }
  const std::vector<unsigned> wanted{0, 0, 0, 25, 25, 40, 40, 55, 55, 70, 70, 85, 85, 95, 95, 95};
  BOOST_TEST(asked == wanted, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_guest_that_is_caught_up_with_is_left_alone_and_one_that_was_slowed_down_stays_so) {
  told guest({});
  guest.round(1000 * mb);
  for (std::uint64_t left = 500 * mb; left > mb; left /= 2) {
    guest.send(2 * left, 100 * mb);
    guest.round(left);
    BOOST_TEST(guest.of.throttle_percent() == 0u);
  }
  told slowed({});
  slowed.round(1000 * mb);
  for (int i = 0; i != 4; ++i) {
    slowed.send(1000 * mb, 100 * mb);
    slowed.round(1000 * mb);
    (void)slowed.of.throttle_percent();
  }
  const auto percent = slowed.of.throttle_percent();
  BOOST_TEST(percent > 0u);
  for (std::uint64_t left = 100 * mb; left > mb; left /= 4) {
    slowed.send(10 * left, 100 * mb);
    slowed.round(left);
    (void)slowed.of.throttle_percent();
  }
  const auto later = slowed.of.throttle_percent();
  BOOST_TEST(later >= percent);
  BOOST_TEST(later <= percent + 15);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::migrate
