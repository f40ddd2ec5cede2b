// SPDX-License-Identifier: Apache-2.0
//
// Connections that break while devices are migrated: where their state is afterwards, and that it is there whole.

#include <boost/test/unit_test.hpp>

#include "migrate/two_sides.hpp"

namespace tidemark::migrate {

namespace {

using namespace std::chrono_literals;
using backend::device_state;
using cut = simulated_network::cut;

constexpr auto recovers = 5'000ms;
constexpr auto never = connection::never;

/// A guest with a device that is in use until the guest is paused, and the device that is to take its place.
struct sides_with_a_device : two_sides {
  sides_with_a_device() : two_sides({1}) {
    std::memset(host.space().blocks()[0].host, 0, page_bytes);
    options.pages = compression::lz4;  // of the page there is little to cut: that is recovery_test's
    devices = &states;
    devices_there = &states_there;
    use();
    vm.on_pause = [this]() -> result<void> {
      use();
      return {};
    };
    host.kernel().fault = [this](unsigned long request, std::uintptr_t) -> std::optional<int> {
      if (request == VFIO_DEVICE_RESET) ++resets;
      return std::nullopt;
    };
  }

  ~sides_with_a_device() { host.kernel().fault = {}; }

  void use() {
    host.write_by_device(iova);
    ++used;
  }
  static std::uint64_t uses_of(const device& one) {
    tidemark_test_state now{};
    BOOST_REQUIRE(one.kernel().read(one.file(), &now, sizeof now) == sizeof now);
    return now.doorbells;
  }

  /// The source's device has its state however it ended; it runs, and the other has the state, where the guest runs.
  void check_devices(const outcome& ended) {
    check(ended);
    BOOST_TEST(uses_of(host.device_of(0)) == used);
    BOOST_TEST((states.state(0) == (vm.running() ? device_state::running : device_state::stop_copy)));
    if (vm.running()) use();
    BOOST_TEST((states_there.state(0) == device_state::running));
    BOOST_TEST(uses_of(device_there) == (there.running() ? used : 0));
  }
  /// It went well, over so many connections that were made anew, or more.
  void check_arrived(const outcome& ended, unsigned recoveries_min) {
    check_devices(ended);
    BOOST_REQUIRE_MESSAGE(ended.source->has_value(), ended.source->error().message());
    BOOST_REQUIRE_MESSAGE(ended.destination->has_value(), ended.destination->error().message());
    BOOST_TEST((*ended.source)->recoveries >= recoveries_min);
    BOOST_TEST((*ended.source)->device_bytes != 0u);
    BOOST_TEST(same_memory());
  }

  address_space space_there = host.another_space();
  device device_there = host.attach(space_there, 1);
  device_states states{{host.device_of(0)}, host.executor(), host.threads()};
  device_states states_there{{device_there}, host.executor(), host.threads()};
  std::uint64_t used = 0;
  unsigned resets = 0;
};

/// What passed through the first connection when nothing broke.
struct passed {
  tests::bytes forth;
  tests::bytes back;
};
passed without_breaks() {
  sides_with_a_device whole;
  whole.options.recovery_window = recovers;
  whole.check_arrived(whole.migrate(), 0);
  BOOST_TEST(whole.used == 2u);
  BOOST_TEST(whole.resets == 0u);
  return {whole.at_destination[0].read, whole.at_source[0].read};
}

/// Every place where the first connection may break before the last word has been said.
std::vector<cut> all_cuts(const passed& whole) {
  std::vector<cut> all;
  for (std::uint64_t bytes = 0; bytes != whole.forth.size(); ++bytes) all.push_back({bytes, never});
  for (std::uint64_t bytes = 0; bytes != whole.back.size(); ++bytes) all.push_back({never, bytes});
  return all;
}

/// It breaks behind the first connection's `go`, with as much of it said, or of the answer to it.
std::vector<cut> cuts_behind_go(const passed& whole) {
  const auto go = head_of(whole.forth, frame_type::go);
  const auto running = head_of(whole.back, frame_type::running);
  std::vector<cut> all;
  for (std::uint64_t bytes = 0; bytes != sizeof(frame_head); ++bytes) all.push_back({go + bytes, never});
  for (std::uint64_t bytes = 1; bytes != sizeof(frame_head); ++bytes) all.push_back({never, running + bytes});
  return all;
}

/// Calls `run` with each, in a context that tells which.
template <class Run>
void for_each_cut(const std::vector<cut>& all, Run run) {
  for (const auto& where : all)
    BOOST_TEST_CONTEXT("cut after " << where.forth << " bytes forth, " << where.back << " back") { run(where); }
}

}  // namespace

BOOST_AUTO_TEST_SUITE(device_recovery)

// covers R35
BOOST_AUTO_TEST_CASE(wherever_the_connection_breaks_the_device_arrives_as_it_was_when_the_guest_was_paused) {
  for_each_cut(all_cuts(without_breaks()), [](cut where) {
    sides_with_a_device sides;
    sides.options.recovery_window = recovers;
    sides.wire.cuts = {where};
    sides.check_arrived(sides.migrate(), 1);
  });
}

// covers R35
BOOST_AUTO_TEST_CASE(wherever_a_connection_breaks_that_nobody_makes_anew_the_device_is_where_the_guest_is) {
  unsigned ran_on = 0;
  unsigned undecided = 0;
  for_each_cut(all_cuts(without_breaks()), [&](cut where) {
    sides_with_a_device sides;
    sides.wire.cuts = {where};
    const auto ended = sides.migrate();
    sides.check_devices(ended);
    if (sides.vm.running()) ++ran_on;
    if (ended.source->has_error() && ended.source->error().code == make_error_code(errc::undecided)) ++undecided;
  });
  BOOST_TEST(ran_on != 0u);
  BOOST_TEST(undecided != 0u);
}

// covers R35: the source has read its device to the end by then, and can not say its state again
BOOST_AUTO_TEST_CASE(a_break_behind_go_leaves_the_state_that_had_arrived) {
  for_each_cut(cuts_behind_go(without_breaks()), [](cut where) {
    sides_with_a_device sides;
    sides.options.recovery_window = recovers;
    sides.wire.cuts = {where};
    sides.check_arrived(sides.migrate(), 1);
    BOOST_TEST(sides.resets == 0u);
    BOOST_TEST(sides.used == 2u);
  });
}

BOOST_AUTO_TEST_CASE(a_break_behind_go_may_be_followed_by_others) {
  const auto whole = without_breaks();
  const cut behind_go{head_of(whole.forth, frame_type::go) + 1, never};
  sides_with_a_device once;
  once.options.recovery_window = recovers;
  once.wire.cuts = {behind_go};
  once.check_arrived(once.migrate(), 1);
  for_each_cut(all_cuts({once.at_destination[1].read, once.at_source[1].read}), [&](cut where) {
    sides_with_a_device sides;
    sides.options.recovery_window = recovers;
    sides.wire.cuts = {behind_go, where, behind_go};
    sides.check_arrived(sides.migrate(), 1);
    BOOST_TEST(sides.at_destination.size() > 2u);
    BOOST_TEST(sides.resets == 0u);
  });
}

// Whoever resumes the guest at the source then finds its device as it was.
BOOST_AUTO_TEST_CASE(a_break_behind_go_that_nobody_mends_leaves_the_state_at_the_source_and_where_the_guest_runs) {
  unsigned ran_there = 0;
  const auto cuts = cuts_behind_go(without_breaks());
  for_each_cut(cuts, [&](cut where) {
    sides_with_a_device sides;
    sides.options.recovery_window = recovers;
    sides.wire.cuts = {where};
    sides.wire.reaches = [](std::size_t number) { return number == 0; };
    const auto ended = sides.migrate();
    sides.check_devices(ended);
    BOOST_TEST(!sides.vm.running());
    BOOST_TEST(ended.destination->has_value() == sides.there.running());
    if (sides.there.running()) ++ran_there;
    BOOST_REQUIRE(ended.source->has_error());
    BOOST_TEST((ended.source->error().code == make_error_code(errc::undecided)));
    BOOST_REQUIRE(sides.host.wait_for(sides.states.resume()));
    BOOST_TEST(sides.uses_of(sides.host.device_of(0)) == sides.used);
  });
  BOOST_TEST((ran_there != 0u && ran_there != cuts.size()));
}

BOOST_AUTO_TEST_CASE(a_break_behind_go_of_one_channel_of_several) {
  const auto with_channels = [](std::vector<cut> cuts) {
    sides_with_a_device sides;
    sides.options.recovery_window = recovers;
    sides.wire.channels = 3;
    sides.wire.cuts = std::move(cuts);
    const auto ended = sides.migrate();
    sides.check_arrived(ended, sides.wire.cuts.empty() ? 0 : 1);
    BOOST_TEST(sides.resets == 0u);
    return head_of(sides.at_destination[0].read, frame_type::final);
  };
  const auto final = with_channels({});
  for (const auto bytes : {1u, 30u, 48u}) with_channels({{final + sizeof(frame_head) + bytes, never}});
}

// What a destination that was told `go` has, or knows that it has not; there is nobody who could send it again.
BOOST_AUTO_TEST_CASE(a_guest_that_was_handed_over_before_all_of_it_was_here_ends_the_migration) {
  sides_with_a_device sides;
  hello said{sides.of, 1, 2, 5'000, false, {{"ram0", page_bytes}}, {"tidemark-test.0"}, true};
  unsigned turn = 0;
  const auto ended = sides.migrate([&](source&) {
    if (sides.has_room && turn++ == 20)
      sides.listens->offer(std::make_unique<tests::playing_stream>(frame_of(frame_type::hello, encode_hello(said))));
  });
  sides.check_devices(ended);
  BOOST_TEST(sides.vm.running());
  BOOST_REQUIRE(ended.destination->has_error());
  BOOST_TEST(says(ended.destination->error(), "handed over, but not all of it is here"));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::migrate
