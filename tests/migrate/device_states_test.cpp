// SPDX-License-Identifier: Apache-2.0
//
// The state of several devices in one migration (R32 to R35); on the model here and on a real kernel in the test guest, with
// four test devices: two of a source, two of a destination.

#include "migrate/device_states.hpp"

#include <unistd.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "lifecycle/fixture.hpp"
#include "migrate/watched_devices.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::migrate {

namespace {

using backend::device_state;
using lifecycle::failure_of;
using lifecycle::says;
using notes = std::vector<std::string>;
using bytes = std::vector<std::byte>;

constexpr std::uint64_t ballast_bytes = 100'000;
constexpr std::uint64_t section_bytes = sizeof(tidemark_test_section);
constexpr std::uint64_t state_bytes = section_bytes + sizeof(tidemark_test_state);
constexpr std::uint64_t initial_bytes = section_bytes + ballast_bytes + state_bytes;
constexpr std::uint64_t stream_bytes = initial_bytes + section_bytes;

constexpr device_migration no_pre_copy{true, true, false};
constexpr device_migration no_p2p{true, false, true};

void four_devices(kernel::model_options& options) {
  options.groups.clear();
  for (unsigned i = 0; i < 4; ++i)
    options.groups.push_back(
        {.number = i, .devices = {"tidemark-test." + std::to_string(i)}, .ballast_bytes = ballast_bytes});
}

/// The guest's devices, too, have the ballast from their next open on.
lifecycle::on with_ballast(lifecycle::on which) {
  if (which == lifecycle::on::linux) {
    std::ofstream parameter("/sys/module/tidemark_test/parameters/ballast");
    parameter << ballast_bytes << std::flush;
    BOOST_REQUIRE(parameter.good());
  }
  return which;
}

/// Four devices in one space, with eight pages at IOVA 0, seen through a watching kernel.
struct devices_fixture : lifecycle::fixture {
  devices_fixture() : fixture(with_ballast(lifecycle::chosen()), four_devices) {
    BOOST_REQUIRE(stage::add(0, 8));
    for (std::size_t i = 0; i < 4; ++i) {
      auto attached = stage::attach(emulated(i));
      BOOST_REQUIRE(attached);
      plain.push_back(*attached);
      watched.push_back(watching.watch(*attached));
    }
  }
  ~devices_fixture() {
    sides.clear();
    watched.clear();
    plain.clear();
  }

  /// A side of a migration, of some of the devices.
  device_states& side(const std::vector<device>& of) {
    return *sides.emplace_back(std::make_unique<device_states>(of, executor(), threads()));
  }
  device_states& source() { return side({watched[0], watched[1]}); }
  device_states& destination() { return side({watched[2], watched[3]}); }
  device with(std::size_t index, device_migration abilities) { return watching.watch(plain[index], abilities); }

  template <class T>
  T run(ring::task<T> work) {
    std::optional<T> outcome;
    ring::start([](ring::task<T> owned, std::optional<T>& to) -> ring::task<> { to.emplace(co_await std::move(owned)); }(
                                                                  std::move(work), outcome));
    settle();
    BOOST_REQUIRE(outcome.has_value());
    return std::move(*outcome);
  }

  state_file file(const device_states& of, std::size_t index) { return of.file(index, {executor(), threads()}); }
  /// All that there is now, and whether that is the end.
  std::pair<bytes, bool> drain(state_file& from, std::size_t at_once = 4000) {
    bytes all;
    for (;;) {
      bytes piece(at_once);
      const auto got = run(from.read(piece));
      BOOST_REQUIRE_MESSAGE(got, (got ? "" : got.error().message()));
      if (got->bytes == 0) return {all, got->ended};
      all.insert(all.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(got->bytes));
    }
  }
  std::pair<bytes, bool> drain(const device_states& of, std::size_t index) {
    auto from = file(of, index);
    return drain(from);
  }
  void ring_bells(std::size_t index, int times) {
    for (int i = 0; i < times; ++i) BOOST_REQUIRE(ring(plain[index], page) == 0);
  }
  std::uint64_t doorbells(std::size_t index) {
    tidemark_test_state now{};
    BOOST_REQUIRE(plain[index].kernel().read(plain[index].file(), &now, sizeof now) == sizeof now);
    return now.doorbells;
  }
  /// Fails what a note says, each time.
  void fail(std::set<std::string> which, int errno_value = EIO) {
    watching.set_rule([which = std::move(which), errno_value](const std::string& note, std::uintptr_t) {
      return which.contains(note) ? std::optional(-errno_value) : std::nullopt;
    });
  }
  void fail_nothing() { watching.set_rule({}); }

  static constexpr std::uint64_t page = page_bytes;
  tests::watching_kernel watching{kernel()};
  std::vector<device> plain;
  std::vector<device> watched;
  std::vector<std::unique_ptr<device_states>> sides;
};

/// Where in the notes something stands, which is there once.
std::size_t place(const notes& among, const std::string& what) {
  BOOST_TEST_REQUIRE(std::count(among.begin(), among.end(), what) == 1, what);
  return static_cast<std::size_t>(std::find(among.begin(), among.end(), what) - among.begin());
}

bool all_before(const notes& among, const std::string& state, const std::string& later) {
  std::size_t last = 0;
  std::size_t first = among.size();
  for (std::size_t i = 0; i < among.size(); ++i) {
    if (among[i].ends_with(" " + state)) last = i;
    if (among[i].ends_with(" " + later)) first = std::min(first, i);
  }
  return place(among, "tidemark-test.0 " + state) < first && place(among, "tidemark-test.1 " + state) < first &&
         last < first;
}

// --- on rings ---

struct streamed {
  std::optional<error> failure;
  bytes taken;

  std::string says() const { return failure ? failure->message() : std::string(); }
};

ring::task<> take_all(state_file from, ring::uring_loop& here, streamed& into) {
  bytes piece(1 << 16);
  for (bool more = true; more;) {
    const auto got = co_await from.read(piece);
    if (!got) into.failure = got.error();
    more = got && !got->ended && got->bytes > 0;
    if (got) into.taken.insert(into.taken.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(got->bytes));
  }
  here.stop();
}

ring::task<> give_all(state_file to, ring::uring_loop& here, streamed& from) {
  const auto given = co_await to.write(from.taken);
  if (!given) from.failure = given.error();
  here.stop();
}

/// A thread with a ring of its own, on which something is done with the device's stream.
template <class Work>
std::thread on_a_ring(const device_states& of, std::size_t index, streamed& what, Work work) {
  return std::thread([&of, index, &what, work] {
    auto loop = ring::uring_loop::make();
    if (!loop) {
      what.failure = loop.error();
      return;
    }
    auto& here = **loop;
    ring::start(work(of.file(index, {here.get_executor(), thread_workers(), &here}), here, what));
    if (const auto ran = here.run(); !ran) what.failure = ran.error();
  });
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(device_states_of_a_migration, devices_fixture)

// covers R33
BOOST_AUTO_TEST_CASE(r33_all_are_kept_from_dma_before_any_stops_and_answer_before_any_goes_on) {
  auto& from = source();
  BOOST_REQUIRE(run(from.stop()));
  const auto stopping = watching.take_notes();
  BOOST_TEST(all_before(stopping, "RUNNING_P2P", "STOP_COPY"));
  BOOST_TEST(stopping.size() == 4U);
  BOOST_TEST((from.state(0) == device_state::stop_copy && from.state(1) == device_state::stop_copy));
  BOOST_REQUIRE(run(from.resume()));
  const auto resuming = watching.take_notes();
  BOOST_TEST(all_before(resuming, "RUNNING_P2P", "RUNNING"));
  BOOST_TEST(resuming.size() == 4U);
}

// covers R33 R34
BOOST_AUTO_TEST_CASE(r33_the_same_from_pre_copy) {
  auto& from = source();
  BOOST_REQUIRE(run(from.start_pre_copy()));
  BOOST_TEST((watching.take_notes().size() == 2U && from.state(1) == device_state::pre_copy));
  BOOST_REQUIRE(run(from.stop()));
  const auto stopping = watching.take_notes();
  BOOST_TEST(all_before(stopping, "PRE_COPY_P2P", "STOP_COPY"));
  BOOST_TEST(stopping.size() == 4U);
}

// covers R33: a device without P2P stops when the others still answer it, and goes on when they answer again
BOOST_AUTO_TEST_CASE(r33_a_device_without_p2p_stops_between) {
  auto& from = side({watched[0], with(1, no_p2p)});
  BOOST_REQUIRE(run(from.stop()));
  BOOST_TEST((watching.take_notes() ==
              notes{"tidemark-test.0 RUNNING_P2P", "tidemark-test.1 STOP_COPY", "tidemark-test.0 STOP_COPY"}));
  BOOST_REQUIRE(run(from.resume()));
  BOOST_TEST(
      (watching.take_notes() == notes{"tidemark-test.0 RUNNING_P2P", "tidemark-test.1 RUNNING", "tidemark-test.0 RUNNING"}));
}

// covers R34
BOOST_AUTO_TEST_CASE(r34_pre_copy_gives_what_there_is_and_then_what_is_new) {
  auto& from = source();
  auto first = file(from, 0);
  BOOST_TEST(drain(first).first.empty());  // before it has begun
  BOOST_REQUIRE(run(from.start_pre_copy()));
  auto left = run(from.pre_copy_left());
  BOOST_REQUIRE(left);
  BOOST_TEST(left->pre_copy_bytes == 2 * initial_bytes);
  BOOST_TEST(left->stop_copy_bytes == 2 * stream_bytes);
  BOOST_TEST(left->stop_copy_known);
  BOOST_TEST(left->devices[1].name == "tidemark-test.1");
  BOOST_TEST(left->devices[1].initial_bytes == initial_bytes);
  const auto [begun, ended] = drain(first);
  BOOST_TEST((begun.size() == initial_bytes && !ended));
  ring_bells(0, 3);
  left = run(from.pre_copy_left());
  BOOST_REQUIRE(left);
  BOOST_TEST((left->devices[0].initial_bytes == 0U && left->devices[0].dirty_bytes == state_bytes));
  const auto [more, ended_then] = drain(first);
  BOOST_TEST((more.size() == state_bytes && !ended_then));
  BOOST_REQUIRE(run(from.stop()));
  const auto [rest, ended_at_last] = drain(first);
  BOOST_TEST((rest.size() == section_bytes && ended_at_last));
  const auto [whole, other_ended] = drain(from, 1);
  BOOST_TEST((whole.size() == stream_bytes && other_ended));
}

// covers R32 R34
BOOST_AUTO_TEST_CASE(r34_the_devices_go_on_at_the_destination_where_they_stopped_at_the_source) {
  auto& from = source();
  auto& to = destination();
  ring_bells(0, 2);
  BOOST_REQUIRE(run(from.start_pre_copy()));
  BOOST_REQUIRE(run(to.start_resuming()));
  for (const bool last : {false, false, true}) {
    if (last) BOOST_REQUIRE(run(from.stop()));
    for (std::size_t i = 0; i < 2; ++i) {
      auto out = file(from, i);
      auto in = file(to, i);
      const auto [piece, ended] = drain(out, 777 + i);
      BOOST_TEST(ended == last);
      BOOST_REQUIRE(run(in.write(piece)));
    }
    if (!last) ring_bells(1, 5);
  }
  watching.take_notes();
  BOOST_REQUIRE(run(to.load()));
  BOOST_TEST((watching.take_notes() == notes{"tidemark-test.2 STOP", "tidemark-test.3 STOP"}));
  BOOST_REQUIRE(run(to.finish()));
  const auto finishing = watching.take_notes();
  BOOST_TEST(finishing.size() == 4U);
  BOOST_TEST(finishing[0].ends_with("P2P"));
  BOOST_TEST(finishing[1].ends_with("P2P"));
  BOOST_TEST((doorbells(2) == 2U && doorbells(3) == 10U));
  ring_bells(3, 1);
  BOOST_TEST(doorbells(3) == 11U);
}

// covers R35
BOOST_AUTO_TEST_CASE(r35_a_migration_that_failed_leaves_them_running_and_another_can_follow) {
  auto& from = source();
  auto out = file(from, 0);
  for (int again = 0; again < 2; ++again) {
    const auto before = held().descriptors;
    BOOST_REQUIRE(run(from.start_pre_copy()));
    ring_bells(0, 1);
    BOOST_REQUIRE(run(from.stop()));
    BOOST_TEST(ring(plain[0], page) == EBUSY);
    BOOST_TEST(drain(out).first.size() == stream_bytes);
    BOOST_REQUIRE(run(from.resume()));
    BOOST_TEST(held().descriptors == before);
    bytes piece(10);
    BOOST_TEST((failure_of(run(out.read(piece))).code == make_error_code(errc::closed)));
    ring_bells(0, 1);
  }
  BOOST_TEST(doorbells(0) == 4U);
}

BOOST_AUTO_TEST_CASE(r35_resume_from_pre_copy_stops_nobody) {
  auto& from = source();
  BOOST_REQUIRE(run(from.start_pre_copy()));
  watching.take_notes();
  BOOST_REQUIRE(run(from.resume()));
  BOOST_TEST((watching.take_notes() == notes{"tidemark-test.0 RUNNING", "tidemark-test.1 RUNNING"}));
  BOOST_REQUIRE(run(from.resume()));
  BOOST_TEST(watching.take_notes().empty());
}

// covers R32
BOOST_AUTO_TEST_CASE(r32_a_device_that_cannot_migrate_is_named_before_anything_stops) {
  auto& from = side({watched[0], with(1, {})});
  for (const bool early : {true, false}) {
    const auto failure = failure_of(run(early ? from.start_pre_copy() : from.stop()));
    BOOST_TEST((failure.code == make_error_code(errc::not_migratable)));
    BOOST_TEST(says(failure, "tidemark-test.1: its driver cannot save and restore its state: detach it before migrating"));
  }
  BOOST_TEST(says(failure_of(run(from.start_resuming())), "tidemark-test.1"));
  BOOST_TEST(watching.take_notes().empty());
  ring_bells(0, 1);
}

// covers R34
BOOST_AUTO_TEST_CASE(r34_a_device_without_pre_copy_runs_on_and_is_read_when_it_has_stopped) {
  auto& from = side({watched[0], with(1, no_pre_copy)});
  BOOST_REQUIRE(run(from.start_pre_copy()));
  BOOST_TEST((watching.take_notes() == notes{"tidemark-test.0 PRE_COPY"}));
  auto out = file(from, 1);
  BOOST_TEST((drain(out) == std::pair(bytes{}, false)));
  const auto left = run(from.pre_copy_left());
  BOOST_REQUIRE(left);
  BOOST_TEST((left->devices[1].initial_bytes == 0U && left->devices[1].stop_copy_bytes == stream_bytes));
  BOOST_REQUIRE(run(from.stop()));
  const auto [whole, ended] = drain(out);
  BOOST_TEST((whole.size() == stream_bytes && ended));
}

BOOST_AUTO_TEST_CASE(what_the_kernel_does_not_say_is_unknown) {
  auto& from = source();
  fail({"tidemark-test.1 size?"}, ENOTTY);
  auto left = run(from.pre_copy_left());
  BOOST_REQUIRE(left);
  BOOST_TEST(!left->stop_copy_known);
  BOOST_TEST(!left->devices[1].stop_copy_bytes);
  BOOST_TEST(left->stop_copy_bytes == stream_bytes);
  BOOST_REQUIRE(run(from.start_pre_copy()));
  fail({"precopy_info"});
  const auto failure = failure_of(run(from.pre_copy_left()));
  BOOST_TEST(says(failure, "tidemark-test.0: VFIO_MIG_GET_PRECOPY_INFO"));
  BOOST_REQUIRE(run(from.resume()));
}

// covers R32
BOOST_AUTO_TEST_CASE(r32_a_change_that_fails_goes_to_the_state_to_recover_to) {
  auto& from = source();
  ring_bells(1, 1);
  fail({"tidemark-test.1 STOP_COPY"});
  const auto failure = failure_of(run(from.stop()));
  BOOST_TEST(failure.code.value() == EIO);
  BOOST_TEST(says(failure,
                  "tidemark-test.1: VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE STOP_COPY (it was in RUNNING_P2P then, and "
                  "is in STOP)"));
  BOOST_TEST((from.state(1) == device_state::stop));
  BOOST_REQUIRE(run(from.resume()));
  BOOST_TEST((from.state(0) == device_state::running && from.state(1) == device_state::running));
  ring_bells(1, 1);
  BOOST_TEST(doorbells(1) == 2U);
}

BOOST_AUTO_TEST_CASE(r33_none_stops_when_one_cannot_be_kept_from_dma) {
  auto& from = source();
  BOOST_REQUIRE(run(from.start_pre_copy()));
  fail({"tidemark-test.0 PRE_COPY_P2P"});
  BOOST_TEST(says(failure_of(run(from.stop())), "it was in PRE_COPY then, and is in PRE_COPY"));
  const auto made = watching.take_notes();
  BOOST_TEST(std::none_of(made.begin(), made.end(), [](const auto& note) { return note.ends_with("STOP_COPY"); }));
  BOOST_REQUIRE(run(from.resume()));
  ring_bells(0, 1);
  ring_bells(1, 1);
}

// covers R32
BOOST_AUTO_TEST_CASE(r32_then_it_is_reset) {
  auto& from = source();
  ring_bells(1, 1);
  fail({"tidemark-test.1 STOP_COPY", "tidemark-test.1 STOP"});
  const auto failure = failure_of(run(from.stop()));
  BOOST_TEST(says(failure, "could not go to STOP; it was reset: it is RUNNING, and its state is gone"));
  BOOST_TEST((watching.take_notes().back() == "tidemark-test.1 RESET"));
  BOOST_TEST((from.state(1) == device_state::running));
  BOOST_TEST(doorbells(1) == 0U);
  BOOST_REQUIRE(run(from.resume()));
}

// covers R32
BOOST_AUTO_TEST_CASE(r32_a_device_in_error_is_reset_at_once) {
  auto& from = source();
  watching.set_rule([](const std::string& note, std::uintptr_t argument) -> std::optional<int> {
    if (note == "tidemark-test.1 STOP_COPY") return -EIO;
    if (note != "tidemark-test.1 state?") return std::nullopt;
    const vfio_device_feature_mig_state broken{.device_state = VFIO_DEVICE_STATE_ERROR, .data_fd = -1};
    std::memcpy(reinterpret_cast<vfio_device_feature*>(argument)->data, &broken, sizeof broken);
    return 0;
  });
  BOOST_TEST(says(failure_of(run(from.stop())), "it was in ERROR then; it was reset"));
  const auto made = watching.take_notes();
  BOOST_TEST(place(made, "tidemark-test.1 RESET") > place(made, "tidemark-test.1 STOP_COPY"));
  BOOST_REQUIRE(run(from.resume()));
}

// covers R32
BOOST_AUTO_TEST_CASE(r32_then_it_is_lost_and_the_others_go_on) {
  auto& from = source();
  fail({"tidemark-test.1 STOP_COPY", "tidemark-test.1 state?", "tidemark-test.1 RESET"});
  const auto failure = failure_of(run(from.stop()));
  BOOST_TEST((failure.code == make_error_code(errc::device_lost)));
  BOOST_TEST(says(failure,
                  "tidemark-test.1: VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE STOP_COPY answered Input/output error, and "
                  "VFIO_DEVICE_RESET Input/output error: detach it"));
  fail_nothing();
  BOOST_REQUIRE(run(from.resume()));
  BOOST_TEST((from.state(0) == device_state::running && from.state(1) == device_state::error));
  ring_bells(0, 1);
  BOOST_TEST((failure_of(run(from.stop())).code == make_error_code(errc::device_lost)));
  BOOST_TEST(says(failure_of(run(from.start_pre_copy())), "tidemark-test.1: detach it before migrating"));
}

// covers R35: a device that does not go on is reset, and the error says so; the others go on
BOOST_AUTO_TEST_CASE(r35_resume_does_what_it_can) {
  auto& from = source();
  BOOST_REQUIRE(run(from.stop()));
  fail({"tidemark-test.0 RUNNING_P2P", "tidemark-test.1 RUNNING"});
  const auto failure = failure_of(run(from.resume()));
  BOOST_TEST(says(failure, "tidemark-test.0: VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE RUNNING_P2P"));
  BOOST_TEST(says(failure, "tidemark-test.1: VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE RUNNING"));
  ring_bells(0, 1);
  ring_bells(1, 1);
}

BOOST_AUTO_TEST_CASE(r35_resume_tries_twice) {
  auto& from = source();
  BOOST_REQUIRE(run(from.stop()));
  int failures = 1;
  watching.set_rule([&failures](const std::string& note, std::uintptr_t) {
    return note == "tidemark-test.0 RUNNING_P2P" && failures-- > 0 ? std::optional(-EIO) : std::nullopt;
  });
  BOOST_TEST(bool(run(from.resume())));
  ring_bells(0, 1);
}

// covers R32
BOOST_AUTO_TEST_CASE(r32_a_destination_that_cannot_take_the_state_says_so_before_anything_runs) {
  auto& to = destination();
  BOOST_REQUIRE(run(to.start_resuming()));
  auto in = file(to, 0);
  BOOST_REQUIRE(run(in.write(bytes(100))));  // no device's state
  watching.take_notes();
  const auto failure = failure_of(run(to.finish()));
  BOOST_TEST(failure.code.value() == EINVAL);
  BOOST_TEST(says(failure, "tidemark-test.2"));
  BOOST_TEST(says(failure, "tidemark-test.3"));  // nothing was written to it
  BOOST_TEST(says(failure, "is in RESUMING"));
  for (const auto& note : watching.take_notes()) BOOST_TEST(!note.ends_with("RUNNING"));
  BOOST_REQUIRE(run(to.give_up()));
  BOOST_TEST((failure_of(run(in.write(bytes(1)))).code == make_error_code(errc::closed)));
  ring_bells(2, 1);
  ring_bells(3, 1);
}

BOOST_AUTO_TEST_CASE(r32_a_destination_takes_no_more_than_the_whole_state) {
  auto& from = source();
  auto& to = destination();
  BOOST_REQUIRE(run(from.stop()));
  BOOST_REQUIRE(run(to.start_resuming()));
  auto in = file(to, 0);
  BOOST_REQUIRE(run(in.write(drain(from, 0).first)));
  const auto failure = failure_of(run(in.write(bytes(1))));
  BOOST_TEST(failure.code.value() == ENOSPC);
  BOOST_TEST(says(failure, "tidemark-test.2: it takes no more"));
  fail({"tidemark-test.3 RESET"});
  const auto lost = failure_of(run(to.give_up()));
  BOOST_TEST((lost.code == make_error_code(errc::device_lost)));
  BOOST_TEST(says(lost, "tidemark-test.3"));
  BOOST_TEST((to.state(0) == device_state::running && to.state(1) == device_state::error));
}

BOOST_AUTO_TEST_CASE(files_without_a_stream) {
  auto& from = source();
  auto out = file(from, 0);
  BOOST_TEST((failure_of(run(out.write(bytes(1)))).code == make_error_code(errc::closed)));
  BOOST_REQUIRE(run(from.stop()));
  BOOST_TEST(failure_of(run(out.write(bytes(1)))).code.value() == EBADF);
  BOOST_REQUIRE(plain[0].kernel().ioctl(plain[0].file(), VFIO_DEVICE_RESET) == 0);
  bytes piece(1);
  const auto failure = failure_of(run(out.read(piece)));
  BOOST_TEST(failure.code.value() == ENODEV);
  BOOST_TEST(says(failure, "tidemark-test.0: its migration state was left, or it was reset"));
}

BOOST_AUTO_TEST_CASE(a_file_may_outlive_its_side_which_leaves_nothing_open) {
  const auto before = held().descriptors;
  auto& from = source();
  auto out = file(from, 0);
  BOOST_REQUIRE(run(from.start_pre_copy()));
  sides.clear();
  BOOST_TEST(held().descriptors == before);
  bytes piece(1);
  BOOST_TEST((failure_of(run(out.read(piece))).code == make_error_code(errc::closed)));
}

BOOST_AUTO_TEST_CASE(no_devices_at_all) {
  auto& none = side({});
  BOOST_TEST(bool(run(none.start_pre_copy())));
  BOOST_TEST(bool(run(none.stop())));
  BOOST_TEST(bool(run(none.resume())));
  BOOST_TEST(run(none.pre_copy_left())->pre_copy_bytes == 0U);
}

// covers R32 R35: whichever call fails, once, all run after it, and nothing is left open
BOOST_AUTO_TEST_CASE(r35_every_call_fails_once) {
  auto& from = source();
  auto out = file(from, 0);
  const auto before = held().descriptors;
  const auto migrate = [&]() -> result<void> {
    bytes piece(200'000);
    if (auto done = run(from.start_pre_copy()); !done) return done;
    if (auto left = run(from.pre_copy_left()); !left) return left.error();
    if (auto got = run(out.read(piece)); !got) return got.error();
    if (auto done = run(from.stop()); !done) return done;
    if (auto got = run(out.read(piece)); !got) return got.error();
    return {};
  };
  kernel().clear();
  BOOST_REQUIRE(migrate());
  const auto calls = kernel().calls();
  BOOST_REQUIRE(run(from.resume()));
  std::size_t failed = 0;
  for (std::size_t n = 1; n <= calls; ++n) {
    kernel().clear();
    kernel().fail_nth(n, EIO);
    const auto done = migrate();
    BOOST_TEST(kernel().injected() == 1U);
    if (!done) ++failed;
    BOOST_TEST(bool(run(from.resume())));
    BOOST_TEST(held().descriptors == before);
    ring_bells(0, 1);
    ring_bells(1, 1);
  }
  BOOST_TEST(calls == 12U);         // 2 PRE_COPY, 2 sizes, 2 estimates, read, 2 PRE_COPY_P2P, 2 STOP_COPY, read
  BOOST_TEST(failed == calls - 2);  // the sizes are then unknown, and that is all
}

// covers R34: each device's stream on the loop of a channel of its own, at once; in the guest through io_uring
BOOST_AUTO_TEST_CASE(r34_streams_go_through_several_rings_at_once) {
  // The host's kernel itself: what stands between would hide that the descriptors are real.
  std::vector<device> own;
  for (const auto& each : plain) {
    auto& bottom = bare_kernel();
    const bool real = bottom.has_real_descriptors();
    own.push_back(real ? device(bottom, kernel::handle(bottom, ::dup(each.file())), each.name(), each.group(), each.info())
                       : each);
  }
  device_states from({own[0], own[1]}, executor(), threads());
  device_states to({own[2], own[3]}, executor(), threads());
  ring_bells(0, 4);
  ring_bells(1, 7);
  BOOST_REQUIRE(run(from.start_pre_copy()));
  BOOST_REQUIRE(run(to.start_resuming()));
  std::array<streamed, 2> streams;
  for (const bool last : {false, true}) {
    if (last) BOOST_REQUIRE(run(from.stop()));
    std::vector<std::thread> readers;
    for (std::size_t i = 0; i < 2; ++i) readers.push_back(on_a_ring(from, i, streams[i], take_all));
    for (auto& each : readers) each.join();
    for (const auto& each : streams) BOOST_REQUIRE_MESSAGE(!each.failure, each.says());
    BOOST_TEST(streams[0].taken.size() == (last ? stream_bytes : initial_bytes));
  }
  std::vector<std::thread> writers;
  for (std::size_t i = 0; i < 2; ++i) writers.push_back(on_a_ring(to, i, streams[i], give_all));
  for (auto& each : writers) each.join();
  for (const auto& each : streams) BOOST_REQUIRE_MESSAGE(!each.failure, each.says());
  BOOST_REQUIRE(run(to.finish()));
  BOOST_TEST((doorbells(2) == 4U && doorbells(3) == 7U));
  BOOST_REQUIRE(run(from.resume()));
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(state_file_on_a_ring)

// A pipe holds less than what is written, so neither side is done in one call.
BOOST_AUTO_TEST_CASE(all_of_it_comes_however_short_the_calls_are) {
  std::array<int, 2> ends{};
  BOOST_REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  auto& kernel = kernel::host_kernel();
  const auto out = std::make_shared<data_slot>();
  const auto in = std::make_shared<data_slot>();
  in->open(kernel::handle(kernel, ends[0]));
  out->open(kernel::handle(kernel, ends[1]));
  auto loop = ring::uring_loop::make();
  BOOST_REQUIRE(loop);
  auto& here = **loop;
  const state_place place{here.get_executor(), thread_workers(), &here};
  bytes said(3'000'000);
  for (std::size_t i = 0; i < said.size(); ++i) said[i] = static_cast<std::byte>(i * 31 + (i >> 8));
  streamed heard;
  bool written = false;
  ring::start([](state_file to, const bytes& what, data_slot& slot, bool& done) -> ring::task<> {
    const auto outcome = co_await to.write(what);
    done = outcome.has_value();
    slot.close();
  }(state_file(kernel, "writer", out, place), said, *out, written));
  ring::start(take_all(state_file(kernel, "reader", in, place), here, heard));
  BOOST_REQUIRE(here.run());
  BOOST_TEST(written);
  BOOST_TEST(!heard.failure.has_value());
  BOOST_TEST((heard.taken == said));
  BOOST_TEST(here.under_way() == 0U);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::migrate
