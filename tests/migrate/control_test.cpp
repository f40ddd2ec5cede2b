// SPDX-License-Identifier: Apache-2.0
//
// What whoever has a migration may ask of it while it runs: hold, release, another bandwidth, cancel; a guest that is slowed
// down; and what it says came of its pages.

#include <boost/asio/error.hpp>
#include <boost/test/unit_test.hpp>

#include <set>

#include "migrate/two_sides.hpp"

namespace tidemark::migrate {

namespace {

using namespace std::chrono_literals;

const boost::system::error_code aborted = boost::asio::error::operation_aborted;

std::uint64_t pages_said(const two_sides& sides) {
  std::uint64_t bytes = 0;
  for (const auto& [number, on] : sides.at_source) bytes += on.written_bytes;
  return bytes / page_bytes;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(control)

BOOST_AUTO_TEST_CASE(no_page_is_sent_while_it_is_held) {
  for (const unsigned channels : {1U, 3U}) {
    two_sides sides({60, 3});
    sides.options.pages = compression::none;
    sides.wire.channels = channels;
    migration_progress last;
    std::set<migration_phase> phases;
    sides.on_progress = [&](const migration_progress& now) { phases.insert((last = now).phase); };
    std::optional<ring::clock::time_point> held_at;
    std::uint64_t held_pages = 0;
    bool released = false;
    const auto ended = sides.migrate([&](source& sender) {
      const auto now = sides.host.loop().now();
      if (!held_at && last.sent_bytes >= 20 * page_bytes) {
        sender.hold();
        held_at = now;
      }
      if (!held_at || released || now - *held_at < 1s) return;
      // What was on its way arrived long ago.
      if (held_pages == 0) held_pages = pages_said(sides);
      if (now - *held_at < 5s) return;
      BOOST_TEST(pages_said(sides) <= held_pages + 2);  // but for frames of no pages
      BOOST_TEST(sides.vm.running());
      BOOST_TEST((last.phase == migration_phase::held));
      released = true;
      sender.release();
    });
    BOOST_TEST(released);
    BOOST_TEST(held_pages < 40u);
    sides.check(ended);
    BOOST_TEST(ended.source->has_value());
    BOOST_TEST(sides.same_memory());
    BOOST_TEST((phases.count(migration_phase::held) == 1));
  }
}

BOOST_AUTO_TEST_CASE(a_connection_that_breaks_while_it_is_held_is_made_anew_before_the_release) {
  two_sides sides({60, 3});
  sides.options.recovery_window = 2'000ms;
  migration_progress last;
  sides.on_progress = [&](const migration_progress& now) { last = now; };
  std::optional<ring::clock::time_point> held_at;
  bool broke = false;
  bool released = false;
  const auto ended = sides.migrate([&](source& sender) {
    const auto now = sides.host.loop().now();
    if (!held_at && last.sent_bytes >= 20 * page_bytes) {
      sender.hold();
      held_at = now;
    }
    if (held_at && !broke && now - *held_at > 1s) {
      broke = true;
      sides.over->break_now(0);
    }
    if (!held_at || released || now - *held_at < 20s) return;
    BOOST_TEST(last.recoveries == 1u);
    released = true;
    sender.release();
  });
  BOOST_TEST(released);
  sides.check(ended);
  BOOST_REQUIRE(ended.source->has_value());
  BOOST_TEST((*ended.source)->recoveries == 1u);
  BOOST_TEST(sides.same_memory());
}

BOOST_AUTO_TEST_CASE(another_bandwidth_counts_from_the_next_frame_on_every_channel) {
  for (const unsigned channels : {1U, 2U}) {
    two_sides sides({200, 3});
    sides.options.pages = compression::none;
    sides.options.bandwidth_bytes_per_s = 100'000;  // 8 seconds for all of it
    sides.wire.channels = channels;
    const auto began = sides.host.loop().now();
    std::optional<ring::clock::time_point> faster_at;
    std::optional<ring::clock::time_point> paused_at;
    sides.vm.on_pause = [&]() -> result<void> {
      paused_at = sides.host.loop().now();
      return {};
    };
    const auto ended = sides.migrate([&](source& sender) {
      if (faster_at || sides.host.loop().now() - began < 2s) return;
      faster_at = sides.host.loop().now();
      sender.set_bandwidth(0);
    });
    sides.check(ended);
    BOOST_TEST(ended.source->has_value());
    BOOST_REQUIRE((faster_at && paused_at));
    BOOST_TEST((*paused_at - *faster_at < 1s));
  }
}

BOOST_AUTO_TEST_CASE(it_can_be_cancelled_in_every_phase) {
  for (const auto phase : {migration_phase::connecting, migration_phase::pre_copy, migration_phase::held,
                           migration_phase::recovering, migration_phase::stop_and_copy})
    for (const unsigned channels : {1U, 2U}) BOOST_TEST_CONTEXT(name_of(phase) << ", channels " << channels) {
        two_sides sides({600, 30});
        sides.place.limit_bytes = 16 << 20;
        sides.wire.channels = channels;
        sides.options.recovery_window = 3'000ms;
        sides.wire.reaches = [&](std::size_t number) { return number < channels; };  // a recovery tries until it is told
        std::optional<migration_progress> last;
        sides.on_progress = [&](const migration_progress& now) { last = now; };
        bool held = false;
        bool broke = false;
        std::optional<ring::clock::time_point> cancelled_at;
        std::optional<ring::clock::time_point> ended_at;
        const auto ended = sides.migrate([&](source& sender) {
          ended_at = sides.host.loop().now();
          if (!last || cancelled_at) return;
          const bool sent_some = last->sent_bytes >= 40 * page_bytes;
          if (phase == migration_phase::held && sent_some && !std::exchange(held, true)) sender.hold();
          if (phase == migration_phase::recovering && sent_some && !std::exchange(broke, true))
            sides.over->break_now(channels - 1);
          if (last->phase != phase) return;
          cancelled_at = *ended_at;
          sender.cancel();
        });
        BOOST_REQUIRE(cancelled_at.has_value());
        sides.check(ended);
        BOOST_REQUIRE(ended.source->has_error());
        BOOST_TEST(ended.source->error().code == aborted);
        BOOST_TEST(sides.vm.running());
        BOOST_TEST(!sides.there.running());
        BOOST_TEST((*ended_at - *cancelled_at < 1100ms));
      }
}

// Which else would wait for it; whatever either of them is about to say or to hear.
BOOST_AUTO_TEST_CASE(a_source_that_is_cancelled_tells_the_destination) {
  for (const auto phase : {migration_phase::pre_copy, migration_phase::held, migration_phase::stop_and_copy})
    for (const unsigned channels : {1U, 2U})
      for (std::uint64_t sent_pages = 1; sent_pages < 200; sent_pages += 5) {
        const std::uint64_t bandwidth = sent_pages % 2 == 0 ? 0 : 20'000;
        BOOST_TEST_INFO_SCOPE(name_of(phase) << ", channels " << channels << ", bytes/s " << bandwidth << ", behind "
                                             << sent_pages << " pages");
        two_sides sides({600, 30});
        sides.place.limit_bytes = 16 << 20;
        sides.wire.channels = channels;
        sides.options.recovery_window = 3'600'000ms;
        std::optional<migration_progress> last;
        sides.on_progress = [&](const migration_progress& now) { last = now; };
        std::optional<ring::clock::time_point> cancelled_at;
        const auto ended = sides.migrate([&](source& sender) {
          if (!last || cancelled_at) return;
          const bool sent_some = last->sent_bytes >= sent_pages * page_bytes;
          if (sent_some) sender.set_bandwidth(bandwidth);
          if (phase == migration_phase::held && sent_some) sender.hold();
          if (last->phase != phase || !sent_some) return;
          cancelled_at = sides.host.loop().now();
          sender.cancel();
        });
        BOOST_REQUIRE(cancelled_at.has_value());
        sides.check(ended);
        BOOST_TEST(ended.source->error().code == aborted);
        BOOST_REQUIRE(ended.destination->has_error());
        BOOST_TEST(says(ended.destination->error(), "the peer refused"));
        BOOST_TEST(says(ended.destination->error(), "cancelled"));
        BOOST_TEST((sides.host.loop().now() - *cancelled_at < 2s));
      }
}

// The new connection is taken, and nothing comes back.
BOOST_AUTO_TEST_CASE(a_cancel_is_heard_at_any_moment_of_a_recovery) {
  unsigned waited_for_welcome = 0;
  for (unsigned turns = 0; waited_for_welcome != 30; ++turns) {
    BOOST_TEST_INFO_SCOPE("after " << turns << " turns");
    two_sides sides({60, 3});
    simulated_arrivals silent(sides.host.loop());
    sides.options.recovery_window = 60'000ms;
    sides.wire.channels = 2;
    sides.wire.reaches = [&](std::size_t number) {
      if (number >= 2) sides.over->lead_to(silent);
      return true;
    };
    std::optional<migration_progress> last;
    sides.on_progress = [&](const migration_progress& now) { last = now; };
    bool broke = false;
    unsigned turns_left = turns;
    std::optional<ring::clock::time_point> cancelled_at;
    std::optional<ring::clock::time_point> ended_at;
    const auto ended = sides.migrate([&](source& sender) {
      ended_at = sides.host.loop().now();
      if (!last || cancelled_at) return;
      if (last->sent_bytes >= 40 * page_bytes && !std::exchange(broke, true)) sides.over->break_now(0);
      if (last->phase != migration_phase::recovering || turns_left-- != 0) return;
      cancelled_at = *ended_at;
      if (sides.over->connections() == 3) ++waited_for_welcome;
      sender.cancel();
    });
    sides.check(ended);
    BOOST_REQUIRE((cancelled_at && ended.source->has_error()));
    BOOST_TEST(ended.source->error().code == aborted);
    BOOST_TEST((*ended_at - *cancelled_at < 1100ms));
    BOOST_TEST(sides.vm.running());
  }
}

// Who does not listen is not to keep the guest waiting.
BOOST_AUTO_TEST_CASE(a_guest_runs_on_before_its_destination_has_heard_of_a_cancel) {
  for (const unsigned channels : {1U, 2U}) {
    two_sides sides({60, 3});
    sides.wire.channels = channels;
    std::optional<ring::clock::time_point> cancelled_at;
    std::optional<ring::clock::time_point> ran_on_at;
    sides.vm.on_resume = [&]() -> result<void> {
      ran_on_at = sides.host.loop().now();
      return {};
    };
    std::optional<migration_progress> last;
    sides.on_progress = [&](const migration_progress& now) { last = now; };
    const auto stall = [&](ring::loop* on) {
      for (auto& [number, tap] : sides.at_destination) tap.stalls_on = on;
    };
    const auto ended = sides.migrate([&](source& sender) {
      auto& loop = sides.host.loop();
      if (cancelled_at && loop.now() - *cancelled_at > 500ms) stall(nullptr);
      if (!last || cancelled_at || last->phase != migration_phase::stop_and_copy) return;
      stall(&loop);
      cancelled_at = loop.now();
      sender.cancel();
    });
    sides.check(ended);
    BOOST_REQUIRE((cancelled_at && ran_on_at));
    BOOST_TEST((*ran_on_at - *cancelled_at < 10ms));
    BOOST_TEST(says(ended.destination->error(), "cancelled"));
  }
}

BOOST_AUTO_TEST_CASE(a_migration_that_was_cancelled_before_it_began_connects_to_nobody) {
  two_sides sides;
  auto& loop = sides.host.loop();
  simulated_arrivals listening(loop);
  simulated_network net(loop, sides.host.luck(), listening, {});
  network_target to(sides.target_parts(net));
  source sender(sides.source_parts(to), sides.options, {});
  sender.cancel();
  std::optional<result<migration_summary>> ended;
  ring::start(two_sides::into(sender.run(), ended));
  loop.run();
  BOOST_REQUIRE((ended && ended->has_error()));
  BOOST_TEST(ended->error().code == aborted);
  BOOST_TEST(net.connections() == 0u);
  BOOST_TEST(sides.vm.running());
}

// --- the destination gives up, or is told that the source did ---

BOOST_AUTO_TEST_CASE(a_destination_that_gives_up_says_so_to_the_source) {
  two_sides sides({60, 3});
  auto& loop = sides.host.loop();
  simulated_arrivals listening(loop);
  simulated_network net(loop, sides.host.luck(), listening, sides.tapped());
  network_target to(sides.target_parts(net));
  destination receiver(sides.destination_parts(listening, sides.there));
  source sender(sides.source_parts(to), sides.options, [&](const migration_progress& now) {
    if (now.sent_bytes >= 20 * page_bytes) receiver.cancel();
  });
  two_sides::outcome ended;
  ring::start(two_sides::into(receiver.run(), ended.destination));
  ring::start(two_sides::into(sender.run(), ended.source));
  loop.run();
  BOOST_REQUIRE((ended.source && ended.destination));
  sides.check(ended);
  BOOST_REQUIRE(ended.source->has_error());
  BOOST_TEST(says(ended.source->error(), "the peer refused"));
  BOOST_TEST(says(ended.source->error(), "cancelled"));
  BOOST_TEST(sides.vm.running());
  BOOST_REQUIRE(ended.destination->has_error());
  BOOST_TEST(ended.destination->error().code == aborted);
}

// Its words do not get through, and it ends all the same.
BOOST_AUTO_TEST_CASE(a_destination_whose_source_reads_nothing_can_be_cancelled) {
  two_sides sides;
  auto& loop = sides.host.loop();
  simulated_arrivals listening(loop);
  destination receiver(sides.destination_parts(listening, sides.there));
  std::optional<result<std::uint64_t>> ended;
  ring::start(two_sides::into(receiver.run(), ended));
  listening.offer(std::make_unique<tests::silent_stream>(loop, 0));
  loop.run_for(1s);
  BOOST_TEST(!ended.has_value());
  receiver.cancel();
  loop.run_for(5s);
  BOOST_REQUIRE((ended && ended->has_error()));
  BOOST_TEST(ended->error().code == aborted);
}

BOOST_AUTO_TEST_CASE(a_source_that_gives_up_tells_the_destination_why) {
  for (const unsigned channels : {1U, 3U}) {
    two_sides sides;
    sides.wire.channels = channels;
    sides.options.recovery_window = 5'000ms;
    sides.vm.on_pause = []() -> result<void> { return make_error(operation::migrate, errc::closed, {}, "a vCPU is stuck"); };
    const auto ended = sides.migrate();
    sides.check(ended);
    BOOST_REQUIRE(ended.destination->has_error());
    BOOST_TEST(says(ended.destination->error(), "the peer refused"));
    BOOST_TEST(says(ended.destination->error(), "a vCPU is stuck"));
  }
}

// --- a guest that is slowed down ---

namespace {

/// Dirties more in every round than can be sent; what it is asked for.
std::vector<unsigned> asked_of(two_sides& sides, bool cancels) {
  sides.vm.on_pause = {};
  sides.options.pages = compression::none;
  sides.options.bandwidth_bytes_per_s = 4'000'000;
  sides.options.downtime_target = 1ms;
  sides.options.rounds_max = 8;
  std::vector<unsigned> asked;
  sides.vm.on_throttle = [&](unsigned percent) {
    BOOST_TEST(sides.vm.running());
    asked.push_back(percent);
  };
  std::uint32_t round = 0;
  sides.on_progress = [&](const migration_progress& now) {
    if (std::exchange(round, now.round) == now.round) return;
    for (std::uint64_t page = 0; page != 60; ++page) sides.host.write_by_cpu(0, page, static_cast<unsigned char>(now.round));
  };
  const auto ended = sides.migrate([&](source& sender) {
    if (cancels && round == 7) sender.cancel();
  });
  sides.check(ended);
  BOOST_TEST(ended.source->has_error() == cancels);
  return asked;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_guest_that_dirties_too_fast_is_slowed_down_and_not_told_otherwise_at_the_end) {
  two_sides sides({100});
  const auto asked = asked_of(sides, false);
  BOOST_REQUIRE(asked.size() >= 2u);
  BOOST_TEST(asked[0] == 25u);
  BOOST_TEST(asked[1] == 40u);
  BOOST_TEST(asked.back() != 0u);
}

BOOST_AUTO_TEST_CASE(a_guest_that_was_slowed_down_is_let_go_when_the_migration_fails) {
  two_sides sides({100});
  const auto asked = asked_of(sides, true);
  BOOST_REQUIRE(asked.size() >= 2u);
  BOOST_TEST(asked[0] == 25u);
  BOOST_TEST(asked.back() == 0u);
  BOOST_TEST(sides.vm.running());
}

BOOST_AUTO_TEST_CASE(a_guest_is_not_slowed_down_where_that_was_not_wanted) {
  two_sides sides({100});
  sides.options.throttle = false;
  BOOST_TEST(asked_of(sides, false).empty());
}

// --- what it counts ---

BOOST_AUTO_TEST_CASE(zero_repeated_and_other_pages_are_counted) {
  for (const auto pages : {compression::none, compression::automatic, compression::lz4, compression::zstd}) {
    two_sides sides({64, 1});
    sides.vm.on_pause = {};
    sides.options.pages = pages;
    auto* memory = sides.host.space().blocks()[0].host;
    std::memset(memory, 0, 10 * page_bytes);
    std::memset(memory + 20 * page_bytes, 0x5a, 8 * page_bytes);
    const auto ended = sides.migrate();
    sides.check(ended);
    BOOST_REQUIRE(ended.source->has_value());
    BOOST_TEST(sides.same_memory());
    const auto& done = **ended.source;
    BOOST_TEST(done.sent_bytes == 65 * page_bytes);
    BOOST_TEST(done.zero_bytes == 10 * page_bytes);
    BOOST_TEST(done.repeated_bytes == 7 * page_bytes);
    BOOST_TEST(**ended.destination == done.sent_bytes);
    const auto data_bytes = (65 - 10 - 7) * page_bytes;
    if (pages == compression::none) BOOST_TEST(done.wire_bytes > data_bytes);
    if (pages == compression::lz4 || pages == compression::zstd) BOOST_TEST(done.wire_bytes < data_bytes);
    BOOST_TEST(done.wire_bytes < data_bytes + 30'000);
  }
}

BOOST_AUTO_TEST_CASE(pages_that_do_not_become_smaller_are_sent_as_they_are) {
  for (const auto pages : {compression::lz4, compression::zstd}) {
    two_sides sides({64, 1});
    sides.options.pages = pages;
    auto* memory = sides.host.space().blocks()[0].host;
    for (std::size_t at = 0; at != 64 * page_bytes; ++at) memory[at] = static_cast<std::byte>(sides.host.luck().below(256));
    const auto ended = sides.migrate();
    sides.check(ended);
    BOOST_REQUIRE(ended.source->has_value());
    BOOST_TEST(sides.same_memory());
    BOOST_TEST((*ended.source)->wire_bytes > 64 * page_bytes);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::migrate
