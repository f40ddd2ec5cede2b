// SPDX-License-Identifier: Apache-2.0
//
// Connections that break while devices are migrated: where their state is afterwards, and that it is there whole.

#include <boost/test/unit_test.hpp>

#include "migrate/two_sides.hpp"
#include "support/dirty_pages.hpp"

namespace tidemark::migrate {

namespace {

using namespace std::chrono_literals;
using backend::device_state;
using cut = simulated_network::cut;

constexpr auto recovers = 5'000ms;
constexpr auto never = connection::never;

/// Workers that begin some time after they were woken.
class late_workers final : public workers {
 public:
  late_workers(ring::loop& loop, workers& below) : loop_(loop), below_(below) {}

  std::unique_ptr<worker> make(const std::string& name, std::function<void()> job) override {
    auto counted = [this, job = std::move(job)] {
      job();
      --under_way_;
    };
    at_once_max = std::max(at_once_max, ++under_way_);
    return std::make_unique<late_worker>(loop_, time, below_.make(name, std::move(counted)));
  }

  std::chrono::milliseconds time{0};
  unsigned at_once_max = 0;  ///< jobs

 private:
  class late_worker final : public worker {
   public:
    late_worker(ring::loop& loop, std::chrono::milliseconds late, std::shared_ptr<worker> below)
        : loop_(loop), late_(late), below_(std::move(below)) {}
    void wake() noexcept override { ring::start(wake_later(loop_, late_, below_)); }

   private:
    static ring::task<> wake_later(ring::loop& loop, std::chrono::milliseconds late, std::weak_ptr<worker> below) {
      ring::timer pause(loop);
      co_await pause.until(loop.now() + late);
      if (const auto still = below.lock()) still->wake();
    }

    ring::loop& loop_;
    std::chrono::milliseconds late_;
    std::shared_ptr<worker> below_;
  };

  ring::loop& loop_;
  workers& below_;
  unsigned under_way_ = 0;
};

/// A guest with devices that are in use until it is paused, each more than the one before, and those that are to take their
/// places.
struct sides_with_devices : two_sides {
  /// Connections are made anew for so long, and break there.
  explicit sides_with_devices(std::vector<cut> cuts = {}, std::chrono::milliseconds window = recovers, unsigned count = 1)
      : two_sides({1}, count) {
    for (unsigned i = 0; i != count; ++i) {
      of_source.push_back(host.device_of(i));
      of_destination.push_back(host.attach(space_there, count + i));
    }
    wire.cuts = std::move(cuts);
    options.recovery_window = window;
    std::memset(host.space().blocks()[0].host, 0, page_bytes);
    options.pages = compression::lz4;  // of the page there is little to cut: that is recovery_test's
    devices = &states.emplace(of_source, host.executor(), host.threads());
    devices_there = &states_there.emplace(of_destination, host.executor(), late);
    use();
    vm.on_pause = [this]() -> result<void> {
      use();
      return {};
    };
    host.kernel().fault = [this](unsigned long request, std::uintptr_t argument) -> std::optional<int> {
      if (request == VFIO_DEVICE_RESET) return fails_reset(++resets) ? std::optional(-EIO) : std::nullopt;
      if (tests::feature_set(request, argument) != VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE) return std::nullopt;
      vfio_device_feature_mig_state wanted{};
      std::memcpy(&wanted, reinterpret_cast<const vfio_device_feature*>(argument)->data, sizeof wanted);
      return fails(static_cast<device_state>(wanted.device_state)) ? std::optional(-EIO) : std::nullopt;
    };
  }

  ~sides_with_devices() { host.kernel().fault = {}; }

  void use() {
    for (unsigned i = 0; i != of_source.size(); ++i)
      for (unsigned turn = 0; turn <= i; ++turn) host.write_by_device(iova, 1, i);
    ++used;
  }
  static std::uint64_t uses_of(const device& one) {
    tidemark_test_state now{};
    BOOST_REQUIRE(one.kernel().read(one.file(), &now, sizeof now) == sizeof now);
    return now.doorbells;
  }
  void check_uses(const std::vector<device>& those, std::uint64_t times) const {
    for (unsigned i = 0; i != those.size(); ++i) BOOST_TEST(uses_of(those[i]) == times * (i + 1));
  }

  /// The source's devices have their state however it ended; they run, and the others have the state, where the guest runs.
  void check_source(const outcome& ended) {
    check(ended);
    check_uses(of_source, used);
    for (unsigned i = 0; i != of_source.size(); ++i)
      BOOST_TEST((states->state(i) == (vm.running() ? device_state::running : device_state::stop_copy)));
    if (vm.running()) use();
  }
  void check_devices(const outcome& ended) {
    check_source(ended);
    for (unsigned i = 0; i != of_destination.size(); ++i) BOOST_TEST((states_there->state(i) == device_state::running));
    check_uses(of_destination, there.running() ? used : 0);
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

  late_workers late{host.loop(), host.threads()};  ///< of the destination's devices
  address_space space_there = host.another_space();
  std::vector<device> of_source;
  std::vector<device> of_destination;
  std::optional<device_states> states;
  std::optional<device_states> states_there;
  std::function<bool(device_state to)> fails = [](device_state) { return false; };  ///< whether a device does on its way
  std::function<bool(unsigned number)> fails_reset = [](unsigned) { return false; };
  std::uint64_t used = 0;  ///< times
  unsigned resets = 0;
};

/// What passed through the first connection when nothing broke.
struct passed {
  tests::bytes forth;
  tests::bytes back;
};
passed without_breaks(unsigned devices = 1, unsigned channels = 1) {
  sides_with_devices whole({}, recovers, devices);
  whole.wire.channels = channels;
  whole.check_arrived(whole.migrate(), 0);
  BOOST_TEST(whole.used == 2u);
  BOOST_TEST(whole.resets == 0u);
  return {whole.at_destination[0].read, whole.at_source[0].read};
}

/// Where the first frame of this type ends, which has a body and nothing more.
std::uint64_t end_of(const tests::bytes& said, frame_type type) {
  frame_head head;
  const auto at = head_of(said, type);
  std::memcpy(&head, said.data() + at, sizeof head);
  return at + sizeof head + head.body_bytes;
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
    sides_with_devices sides({where});
    sides.check_arrived(sides.migrate(), 1);
  });
}

// covers R35
BOOST_AUTO_TEST_CASE(wherever_a_connection_breaks_that_nobody_makes_anew_the_device_is_where_the_guest_is) {
  unsigned ran_on = 0;
  unsigned undecided = 0;
  for_each_cut(all_cuts(without_breaks()), [&](cut where) {
    sides_with_devices sides({where}, 0ms);
    const auto ended = sides.migrate();
    sides.check_devices(ended);
    if (sides.vm.running()) ++ran_on;
    if (ended.source->has_error() && ended.source->error().code == make_error_code(errc::undecided)) ++undecided;
  });
  BOOST_TEST(ran_on != 0u);
  BOOST_TEST(undecided != 0u);
}

// covers R35
BOOST_AUTO_TEST_CASE(wherever_the_connection_breaks_several_devices_arrive) {
  constexpr unsigned devices = 3;
  for (const unsigned channels : {1u, 2u}) {
    std::uint64_t number = 0;
    for_each_cut(all_cuts(without_breaks(devices, channels)), [&](cut where) {
      if (++number % 5 != 0) return;  // what one device does not show is not a matter of a byte
      sides_with_devices sides({where}, recovers, devices);
      sides.wire.channels = channels;
      sides.check_arrived(sides.migrate(), 1);
    });
  }
}

// covers R35: the source has read its device to the end by then, and can not say its state again
BOOST_AUTO_TEST_CASE(a_break_behind_go_leaves_the_state_that_had_arrived) {
  for_each_cut(cuts_behind_go(without_breaks()), [](cut where) {
    sides_with_devices sides({where});
    sides.check_arrived(sides.migrate(), 1);
    BOOST_TEST(sides.resets == 0u);
    BOOST_TEST(sides.used == 2u);
  });
}

BOOST_AUTO_TEST_CASE(a_break_behind_go_may_be_followed_by_others) {
  const auto whole = without_breaks();
  const cut behind_go{head_of(whole.forth, frame_type::go) + 1, never};
  sides_with_devices once({behind_go});
  once.check_arrived(once.migrate(), 1);
  for_each_cut(all_cuts({once.at_destination[1].read, once.at_source[1].read}), [&](cut where) {
    sides_with_devices sides({behind_go, where, behind_go});
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
    sides_with_devices sides({where});
    sides.wire.reaches = [](std::size_t number) { return number == 0; };
    const auto ended = sides.migrate();
    sides.check_devices(ended);
    BOOST_TEST(!sides.vm.running());
    BOOST_TEST(ended.destination->has_value() == sides.there.running());
    if (sides.there.running()) ++ran_there;
    BOOST_REQUIRE(ended.source->has_error());
    BOOST_TEST((ended.source->error().code == make_error_code(errc::undecided)));
    BOOST_REQUIRE(sides.host.wait_for(sides.states->resume()));
    sides.check_uses(sides.of_source, sides.used);
  });
  BOOST_TEST((ran_there != 0u && ran_there != cuts.size()));
}

BOOST_AUTO_TEST_CASE(a_break_behind_go_of_one_channel_of_several) {
  const auto with_channels = [](std::vector<cut> cuts) {
    sides_with_devices sides(std::move(cuts));
    sides.wire.channels = 3;
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
  sides_with_devices sides({}, 0ms);
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

// --- devices that take their time, and that fail ---

namespace {

/// Breaks the first connection when so much has come at the destination, and once.
two_sides::outcome migrate_and_break_behind(sides_with_devices& sides, std::uint64_t bytes) {
  bool broken = false;
  return sides.migrate([&](source&) {
    if (!broken && sides.at_destination[0].read_bytes == bytes) {
      broken = true;
      sides.over->break_now(0);
    }
  });
}

}  // namespace

// The source is back before the device has begun to take over, or has done so, what came over the connection that broke.
BOOST_AUTO_TEST_CASE(a_device_that_changes_its_state_is_let_finish_before_the_next_attempt) {
  const auto whole = without_breaks();
  for (const auto behind : {frame_type::hello, frame_type::final}) {
    sides_with_devices sides;
    sides.late.time = 500ms;
    sides.check_arrived(migrate_and_break_behind(sides, end_of(whole.forth, behind)), 1);
    BOOST_TEST(sides.late.at_once_max == 1u);
  }
}

// covers R32
BOOST_AUTO_TEST_CASE(a_state_that_is_refused_in_the_next_attempt_is_refused_before_go) {
  const auto whole = without_breaks();
  sides_with_devices sides;
  sides.late.time = 500ms;
  unsigned loads = 0;
  sides.fails = [&](device_state to) { return to == device_state::stop && ++loads > 1; };
  const auto ended = migrate_and_break_behind(sides, end_of(whole.forth, frame_type::final));
  sides.check_devices(ended);
  BOOST_TEST(loads == 2u);
  BOOST_TEST(sides.vm.running());
  BOOST_REQUIRE((ended.source->has_error() && ended.destination->has_error()));
  BOOST_TEST(says(ended.source->error(), "Input/output error"));
}

// Nobody is waited for who has been told why it cannot be.
BOOST_AUTO_TEST_CASE(a_device_that_cannot_begin_to_take_over_ends_the_migration_in_any_attempt) {
  const auto whole = without_breaks();
  for (const unsigned good : {0u, 1u}) {
    sides_with_devices sides({{head_of(whole.forth, frame_type::final), never}});
    unsigned begun = 0;
    sides.fails = [&](device_state to) { return to == device_state::resuming && ++begun > good; };
    const auto ended = sides.migrate();
    sides.check_devices(ended);
    BOOST_TEST(begun == good + 1);
    BOOST_TEST(sides.vm.running());
    BOOST_REQUIRE((ended.source->has_error() && ended.destination->has_error()));
    for (const auto& each : {ended.source->error(), ended.destination->error()})
      BOOST_TEST(says(each, "tidemark-test.1: VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE RESUMING"));
  }
}

// What came in the attempt before is still in it: it cannot take anything over, and is lost to its guest.
BOOST_AUTO_TEST_CASE(a_device_that_cannot_be_reset_for_the_next_attempt_ends_the_migration) {
  const auto whole = without_breaks(2);
  sides_with_devices sides({{head_of(whole.forth, frame_type::final), never}}, recovers, 2);
  sides.fails_reset = [](unsigned number) { return number == 2; };
  const auto ended = sides.migrate();
  sides.check_source(ended);
  BOOST_TEST(sides.vm.running());
  BOOST_TEST(!sides.there.running());
  BOOST_REQUIRE((ended.source->has_error() && ended.destination->has_error()));
  for (const auto& each : {ended.source->error(), ended.destination->error()}) BOOST_TEST(says(each, "VFIO_DEVICE_RESET"));
  const auto lost = [&](std::size_t i) { return sides.states_there->state(i) == device_state::error; };
  BOOST_TEST(lost(0) != lost(1));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::migrate
