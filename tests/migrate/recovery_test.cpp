// SPDX-License-Identifier: Apache-2.0
//
// Connections that break and are made anew, on one channel and on several; and what must not be mistaken for that.

#include <boost/test/unit_test.hpp>

#include <set>

#include "migrate/two_sides.hpp"

namespace tidemark::migrate {

namespace {

using namespace std::chrono_literals;
using cut = simulated_network::cut;

constexpr auto recovers = 5'000ms;

/// It went well, over so many connections that were made anew, or more.
void check_arrived(two_sides& sides, const two_sides::outcome& ended, unsigned recoveries_min) {
  sides.check(ended);
  if (*ended.destination)
    BOOST_TEST(sides.same_memory());
  else
    BOOST_ERROR(ended.destination->error().message());
  BOOST_REQUIRE_MESSAGE(ended.source->has_value(), ended.source->error().message());
  BOOST_TEST(sides.there.running());
  BOOST_TEST((*ended.source)->compared);
  BOOST_TEST((*ended.source)->recoveries >= recoveries_min);
}

/// What passed through the first connection when nothing broke.
struct passed {
  tests::bytes forth;
  tests::bytes back;
};
passed without_breaks() {
  two_sides_of_a_page whole;
  whole.options.recovery_window = recovers;
  BOOST_REQUIRE(whole.migrate().source->has_value());
  return {whole.at_destination[0].read, whole.at_source[0].read};
}

/// Blocks of several stretches, so that every channel has some, and a guest that goes on writing.
struct wide_sides : two_sides {
  explicit wide_sides(unsigned channels) : two_sides({1600, 900}) {
    place.limit_bytes = 16 << 20;
    wire.channels = channels;
    options.pages = compression::automatic;
    on_progress = [this](const migration_progress& now) {
      if (std::exchange(round_, now.round) == now.round || now.phase != migration_phase::pre_copy) return;
      for (std::uint64_t page = 0; page < 1600; page += 37)
        host.write_by_cpu(0, page, static_cast<unsigned char>(now.round));
      for (std::uint64_t page = 0; page < 900; page += 301)
        host.write_by_cpu(1, page, static_cast<unsigned char>(now.round));
    };
  }

 private:
  std::uint32_t round_ = 0;
};

/// The stretches that came on each connection.
std::map<std::size_t, std::set<std::pair<std::uint32_t, std::uint64_t>>> stretches_of(two_sides& sides) {
  std::map<std::size_t, std::set<std::pair<std::uint32_t, std::uint64_t>>> all;
  for (const auto& [number, on] : sides.at_destination)
    for (const auto at : heads_in(on.read)) {
      frame came;
      std::memcpy(&came.head, on.read.data() + at, sizeof came.head);
      if (came.head.type != frame_type::pages) continue;
      came.body.assign(reinterpret_cast<const char*>(on.read.data()) + at + sizeof came.head, came.head.body_bytes);
      const auto said = decode_pages(came, sides.host.space().blocks());
      BOOST_REQUIRE(said.has_value());
      for (const auto& run : said->runs)
        for (auto page = run.first_page; page != run.first_page + run.pages; ++page)
          all[number].insert({run.block, page / 512});
    }
  return all;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(recovery)

// covers R35
BOOST_AUTO_TEST_CASE(wherever_the_connection_breaks_it_is_made_anew_and_the_guest_arrives) {
  const auto whole = without_breaks();
  const auto run = [&](cut where, unsigned recoveries_min) {
    BOOST_TEST_CONTEXT("cut after " << where.forth << " bytes forth, " << where.back << " back") {
      two_sides_of_a_page sides;
      sides.options.recovery_window = recovers;
      sides.wire.cuts = {where};
      check_arrived(sides, sides.migrate(), recoveries_min);
    }
  };
  // What breaks behind the last word has been said, and nobody minds.
  for (std::uint64_t bytes = 0; bytes < whole.forth.size(); ++bytes) run({bytes, connection::never}, 1);
  for (std::uint64_t bytes = 0; bytes < whole.back.size(); ++bytes) run({connection::never, bytes}, 1);
  run({whole.forth.size(), connection::never}, 0);
  run({connection::never, whole.back.size()}, 0);
}

BOOST_AUTO_TEST_CASE(a_connection_may_break_again_and_again) {
  const auto whole = without_breaks();
  for (std::uint64_t bytes = 1; bytes < whole.forth.size(); bytes += 151) {
    two_sides_of_a_page sides;
    sides.options.recovery_window = recovers;
    sides.wire.cuts = {{bytes, connection::never}, {connection::never, 20}, {bytes, connection::never}, {700, 60}};
    check_arrived(sides, sides.migrate(), 1);
  }
}

BOOST_AUTO_TEST_CASE(nobody_waits_for_a_destination_that_was_never_there) {
  two_sides sides;
  sides.options.recovery_window = recovers;
  sides.wire.reaches = [](std::size_t) { return false; };
  const auto began = sides.host.loop().now();
  std::optional<ring::clock::time_point> told;
  const auto ended = sides.migrate([&](source&) { told = sides.host.loop().now(); });
  sides.check(ended);
  BOOST_REQUIRE(ended.source->has_error());
  BOOST_TEST(says(ended.source->error(), "nobody listens there"));
  BOOST_TEST((*told - began < 100ms));
  BOOST_TEST(sides.vm.running());
}

BOOST_AUTO_TEST_CASE(a_network_that_does_not_come_back_ends_it_and_the_guest_runs_on) {
  const auto whole = without_breaks();
  two_sides_of_a_page sides;
  sides.options.recovery_window = recovers;
  sides.wire.cuts = {{head_of(whole.forth, frame_type::final), connection::never}};
  sides.wire.reaches = [](std::size_t number) { return number == 0; };
  const auto ended = sides.migrate();
  sides.check(ended);
  BOOST_TEST(ended.source->has_error());
  BOOST_REQUIRE(ended.destination->has_error());
  BOOST_TEST(says(ended.destination->error(), "the guest does not run here"));
  BOOST_TEST(sides.vm.running());
}

namespace {

/// A break after `go` began to leave and before `running` has come, when the network comes back and when it does not.
void check_break_at_the_switchover(cut where, bool runs_there) {
  for (const bool comes_back : {true, false}) {
    two_sides_of_a_page sides;
    sides.options.recovery_window = recovers;
    sides.wire.cuts = {where};
    sides.wire.reaches = [=](std::size_t number) { return comes_back || number == 0; };
    const auto ended = sides.migrate();
    if (comes_back) {
      check_arrived(sides, ended, 1);
      continue;
    }
    sides.check(ended);
    BOOST_REQUIRE(ended.source->has_error());
    BOOST_TEST(ended.source->error().code == make_error_code(errc::undecided));
    BOOST_TEST(says(ended.source->error(), "stays paused here"));
    BOOST_TEST(!sides.vm.running());
    BOOST_TEST(sides.there.running() == runs_there);
    BOOST_TEST(ended.destination->has_value() == runs_there);
  }
}

}  // namespace

// It takes the connection, and nothing comes back: a process that stands still.
BOOST_AUTO_TEST_CASE(a_destination_that_has_fallen_silent_is_waited_for_within_the_window) {
  const auto whole = without_breaks();
  for (const auto last : {frame_type::pages, frame_type::final, frame_type::go})
    for (const unsigned channels : {1U, 2U}) {
      BOOST_TEST_INFO_SCOPE(name_of(last) << ", channels " << channels);
      two_sides_of_a_page sides;
      simulated_arrivals silent(sides.host.loop());
      sides.options.recovery_window = recovers;
      sides.wire.channels = channels;
      sides.wire.cuts = {{head_of(whole.forth, last), connection::never}};
      sides.wire.reaches = [&](std::size_t number) {
        if (number >= channels) sides.over->lead_to(silent);
        return true;
      };
      std::optional<ring::clock::time_point> broke_at;
      sides.on_progress = [&](const migration_progress& now) {
        if (now.phase == migration_phase::recovering && !broke_at) broke_at = sides.host.loop().now();
      };
      std::optional<ring::clock::time_point> ended_at;
      const auto ended = sides.migrate([&](source&) { ended_at = sides.host.loop().now(); });
      sides.check(ended);
      BOOST_REQUIRE((broke_at && ended_at && ended.source->has_error()));
      BOOST_TEST(says(ended.source->error(), "the destination did not answer"));
      BOOST_TEST((*ended_at - *broke_at < recovers + 100ms));
      BOOST_TEST((ended.source->error().code == make_error_code(errc::undecided)) == (last == frame_type::go));
      BOOST_TEST(sides.vm.running() == (last != frame_type::go));
      BOOST_TEST(!sides.there.running());
    }
}

BOOST_AUTO_TEST_CASE(a_break_between_go_and_running_is_resolved_by_asking_when_the_network_comes_back) {
  const auto whole = without_breaks();
  const auto go = head_of(whole.forth, frame_type::go);
  const auto running = head_of(whole.back, frame_type::running);
  for (std::uint64_t bytes = 0; bytes != sizeof(frame_head); ++bytes) {
    check_break_at_the_switchover({go + bytes, connection::never}, false);
    if (bytes != 0) check_break_at_the_switchover({connection::never, running + bytes}, true);
  }
}

// The destination is asked while its guest is still being resumed: it must not answer before it knows.
BOOST_AUTO_TEST_CASE(a_guest_that_is_being_resumed_is_not_said_to_run_before_it_does) {
  for (const bool resumes : {true, false}) {
    two_sides_of_a_page sides;
    sides.options.recovery_window = recovers;
    if (!resumes)
      sides.there.on_resume = []() -> result<void> {
        return make_error(operation::migrate, errc::closed, {}, "no KVM here");
      };
    bool broke = false;
    sides.there.resumes_late = [&]() -> ring::task<void> {
      sides.over->break_now(0);
      ring::timer pause(sides.host.loop());
      co_await pause.until(sides.host.loop().now() + 500ms);
      broke = true;
    };
    const auto ended = sides.migrate();
    BOOST_TEST(broke);
    if (resumes) {
      check_arrived(sides, ended, 1);
      continue;
    }
    sides.check(ended);
    BOOST_REQUIRE(ended.source->has_error());
    BOOST_TEST(ended.source->error().code == make_error_code(errc::undecided));
    BOOST_TEST(says(ended.source->error(), "no KVM here"));
    BOOST_TEST(!sides.there.running());
  }
}

// --- several channels ---

BOOST_AUTO_TEST_CASE(pages_take_several_channels_and_a_page_always_the_same) {
  for (const unsigned channels : {1U, 2U, 3U, 5U}) {
    wide_sides sides(channels);
    check_arrived(sides, sides.migrate(), 0);
    const auto came = stretches_of(sides);
    BOOST_TEST(came.size() == std::min(channels, 4U));  // so many stretches has the greater block
    std::set<std::pair<std::uint32_t, std::uint64_t>> all;
    for (const auto& [number, stretches] : came)
      for (const auto& stretch : stretches) BOOST_TEST(all.insert(stretch).second);
    BOOST_TEST(all.size() == 6u);  // 1600 pages are four, 900 are two
  }
}

BOOST_AUTO_TEST_CASE(one_channel_of_several_breaks_and_all_is_made_anew) {
  for (std::size_t channel = 0; channel != 3; ++channel)
    for (const std::uint64_t bytes : {50u, 300u, 20'000u, 500'000u}) {
      wide_sides sides(3);
      sides.options.recovery_window = recovers;
      sides.options.pages = compression::none;
      sides.wire.cuts.resize(3);
      sides.wire.cuts[channel].forth = bytes;
      BOOST_TEST_CONTEXT("channel " << channel << " after " << bytes) { check_arrived(sides, sides.migrate(), 1); }
    }
}

BOOST_AUTO_TEST_CASE(what_had_arrived_is_not_sent_again) {
  wide_sides whole(2);
  whole.on_progress = {};
  const auto without = whole.migrate();
  BOOST_REQUIRE(without.source->has_value());
  wide_sides sides(2);
  sides.on_progress = {};
  sides.options.recovery_window = recovers;
  sides.options.pages = compression::none;
  sides.wire.cuts = {{4'000'000, connection::never}};
  const auto ended = sides.migrate();
  check_arrived(sides, ended, 1);
  BOOST_TEST((*ended.source)->sent_bytes == (*without.source)->sent_bytes);
  // What was under way when it broke came twice: four batches of four pages at most.
  BOOST_TEST(**ended.destination >= (*ended.source)->sent_bytes);
  BOOST_TEST(**ended.destination <= (*ended.source)->sent_bytes + 16 * page_bytes);
}

// --- another destination, and others who connect ---

namespace {

/// A destination that is gone after the first connection broke, and another that listens there from then on.
void check_restarted(cut where, bool handed_over) {
  two_sides_of_a_page sides;
  sides.options.recovery_window = recovers;
  sides.wire.cuts = {where};
  auto& loop = sides.host.loop();
  simulated_arrivals first(loop);
  simulated_arrivals second(loop);
  simulated_network* net = nullptr;
  auto how = sides.tapped();
  how.reaches = [&](std::size_t number) {
    if (number == 1) net->lead_to(second);
    return true;
  };
  simulated_network made(loop, sides.host.luck(), first, how);
  net = &made;
  hooked_guest other(sides.host.executor(), false);
  network_target to(sides.target_parts(made));
  destination before(sides.destination_parts(first, sides.there));
  destination after(sides.destination_parts(second, other));
  source sender(sides.source_parts(to), sides.options, {});
  two_sides::outcome ended;
  std::optional<result<std::uint64_t>> ended_after;
  ring::start(two_sides::into(before.run(), ended.destination));
  ring::start(two_sides::into(after.run(), ended_after));
  ring::start(two_sides::into(sender.run(), ended.source));
  loop.run();
  BOOST_REQUIRE((ended.source && ended.destination && ended_after));
  sides.check(ended);
  BOOST_REQUIRE(ended.source->has_error());
  BOOST_TEST(says(ended.source->error(), "does not know this migration any more"));
  BOOST_TEST((ended.source->error().code == make_error_code(errc::undecided)) == handed_over);
  BOOST_TEST(sides.vm.running() != handed_over);
  BOOST_TEST(ended_after->has_error());
  BOOST_TEST(!other.running());
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_destination_that_was_restarted_is_not_mistaken_for_the_old_one) {
  const auto whole = without_breaks();
  for (const auto before : {frame_type::pages, frame_type::final})
    check_restarted({head_of(whole.forth, before) + 20, connection::never}, false);
  check_restarted({head_of(whole.forth, frame_type::go) + 7, connection::never}, true);
  check_restarted({connection::never, head_of(whole.back, frame_type::running) + 7}, true);
}

BOOST_AUTO_TEST_CASE(strangers_in_the_middle_are_refused_and_disturb_nothing) {
  two_sides sides({60, 3});
  const hello other{session::random(), 1, 1, 0, false, {{"ram0", 60 * page_bytes}, {"ram1", 3 * page_bytes}}, {}};
  hello same = other;
  same.of = sides.of;
  struct stranger {
    tests::bytes says;
    std::string why;
  };
  const std::vector<stranger> all{
      {tests::bytes(200, 'x'), "not a Tidemark migration stream"},
      {frame_of(frame_type::hello, "{}"), "lacks the number"},
      {frame_of(frame_type::hello, encode_hello(other)), "another migration is under way"},
      {frame_of(frame_type::hello, encode_hello(same)), "this attempt of the migration is over"},
      {frame_of(frame_type::join, encode_join({other.of.id, 1, 1})), "belongs to no migration"},
      {frame_of(frame_type::join, encode_join({sides.of.id, 1, 1})), "belongs to no migration"},  // there is but one channel
      {frame_of(frame_type::join, encode_join({sides.of.id, 2, 1})), "belongs to no migration"},
      {frame_of(frame_type::pages, {}), "where hello was due"},
      {frame_of(frame_type::go, {}), "where hello was due"},
      {{}, "peer"},
  };
  std::size_t next = 0;
  unsigned turn = 0;
  const auto ended = sides.migrate([&](source&) {
    if (++turn % 20 != 0 || !sides.has_room || next == all.size()) return;
    sides.listens->offer(std::make_unique<tests::playing_stream>(all[next++].says));
    // Somebody who says nothing is not waited for, nor does he keep the destination from ending.
    if (next == 5) sides.listens->offer(std::make_unique<tests::silent_stream>(sides.host.loop(), 0));
  });
  check_arrived(sides, ended, 0);
  BOOST_REQUIRE(next == all.size());
  BOOST_REQUIRE(sides.strangers.size() >= all.size());
  for (std::size_t i = 0; i != all.size(); ++i) BOOST_TEST(says(sides.strangers[i], all[i].why), i);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::migrate
