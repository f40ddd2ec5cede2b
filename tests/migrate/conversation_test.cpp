// SPDX-License-Identifier: Apache-2.0
//
// Source and destination, talking to each other: how each way to end ends.

#include <boost/asio/error.hpp>
#include <boost/json/serialize.hpp>
#include <boost/test/unit_test.hpp>

#include "migrate/two_sides.hpp"

namespace tidemark::migrate {

namespace {

using namespace std::chrono_literals;

/// A network whose connections nobody answers.
class silent_network final : public network {
 public:
  silent_network(ring::loop& loop, std::uint64_t takes_bytes) : loop_(loop), takes_bytes_(takes_bytes) {}
  unsigned channels() const noexcept override { return 1; }
  ring::loop& loop(unsigned) noexcept override { return loop_; }
  ring::task<result<std::unique_ptr<ring::byte_stream>>> connect(unsigned) override {
    ring::timer pause(loop_);
    co_await pause.until(loop_.now() + 1ms);
    co_return std::make_unique<tests::silent_stream>(loop_, takes_bytes_);
  }

 private:
  ring::loop& loop_;
  std::uint64_t takes_bytes_;
};

/// What a source says that is asked to stop after a while, facing a destination that stands still.
result<migration_summary> cancelled_before_silence(two_sides& sides, std::uint64_t takes_bytes,
                                                   std::chrono::microseconds after) {
  auto& loop = sides.host.loop();
  silent_network net(loop, takes_bytes);
  network_target to(sides.target_parts(net));
  source sender(sides.source_parts(to), sides.options, {});
  std::optional<result<migration_summary>> ended;
  ring::start(two_sides::into(sender.run(), ended));
  loop.run_for(after);
  BOOST_TEST(!ended.has_value());
  sender.cancel();
  loop.run_for(1100ms);  // a second for the last words, which nobody takes
  BOOST_REQUIRE(ended.has_value());
  return *ended;
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_migration_moves_the_guest_and_its_memory) {
  two_sides sides({40, 3});
  const auto ended = sides.migrate();
  sides.check(ended);
  BOOST_REQUIRE(ended.source->has_value());
  BOOST_TEST((*ended.source)->compared);
  BOOST_TEST((*ended.source)->stop_and_copy_bytes == 2 * page_bytes);
  BOOST_TEST((*ended.source)->sent_bytes == 45 * page_bytes);
  BOOST_REQUIRE(ended.destination->has_value());
  BOOST_TEST(**ended.destination == 45 * page_bytes);
  BOOST_TEST(sides.same_memory());
}

namespace {

/// A guest that in each round dirties `pages_of(round)` pages, over a network of 4 MB/s: a page takes about a millisecond.
result<migration_summary> summary_of(std::chrono::milliseconds downtime, std::uint32_t rounds_max,
                                     std::function<std::uint64_t(std::uint32_t)> pages_of) {
  two_sides sides({100});
  sides.vm.on_pause = {};
  sides.options.pages = compression::none;
  sides.options.bandwidth_bytes_per_s = 4'000'000;
  sides.options.downtime_target = downtime;
  sides.options.rounds_max = rounds_max;
  std::uint32_t round = 0;
  sides.on_progress = [&](const migration_progress& now) {
    if (std::exchange(round, now.round) == now.round) return;
    for (std::uint64_t page = 0; page < pages_of(round); ++page)
      sides.host.write_by_cpu(0, page, static_cast<unsigned char>(round));
  };
  const auto ended = sides.migrate();
  sides.check(ended);
  BOOST_TEST(sides.same_memory());
  return *ended.source;
}

}  // namespace

// 8 pages fit, but a round that halves what is left makes the blackout shorter; the 4 after it are not halved within 2 ms.
BOOST_AUTO_TEST_CASE(pre_copy_goes_on_until_what_is_left_fits_the_downtime) {
  const auto done = summary_of(10ms, 30, [](std::uint32_t round) { return std::uint64_t{64} >> round; });
  BOOST_REQUIRE(done.has_value());
  BOOST_TEST(done->rounds == 4u);
  BOOST_TEST(done->sent_bytes == (100 + 32 + 16 + 8 + 4) * page_bytes);
  BOOST_TEST(done->stop_and_copy_bytes == 4 * page_bytes);
  BOOST_TEST(done->predicted.total().count() <= std::chrono::nanoseconds(10ms).count());
}

BOOST_AUTO_TEST_CASE(a_blackout_that_fits_and_becomes_no_shorter_is_taken) {
  const auto done = summary_of(10ms, 30, [](std::uint32_t) { return std::uint64_t{8}; });
  BOOST_REQUIRE(done.has_value());
  BOOST_TEST(done->rounds == 2u);
  BOOST_TEST(done->stop_and_copy_bytes == 8 * page_bytes);
}

BOOST_AUTO_TEST_CASE(a_guest_that_dirties_too_fast_is_switched_over_after_the_last_round) {
  const auto done = summary_of(10ms, 5, [](std::uint32_t) { return std::uint64_t{60}; });
  BOOST_REQUIRE(done.has_value());
  BOOST_TEST(done->rounds == 5u);
  BOOST_TEST(done->stop_and_copy_bytes == 60 * page_bytes);
  BOOST_TEST(done->predicted.total().count() > std::chrono::nanoseconds(10ms).count());
}

BOOST_AUTO_TEST_CASE(a_migration_without_comparison_ends_well_on_both_sides) {
  two_sides sides;
  sides.options.compare = false;
  const auto ended = sides.migrate();
  sides.check(ended);
  BOOST_REQUIRE(ended.source->has_value());
  BOOST_TEST(!(*ended.source)->compared);
  BOOST_TEST(ended.destination->has_value());
  BOOST_TEST(sides.same_memory());
}

BOOST_AUTO_TEST_CASE(a_byte_that_differs_at_the_destination_is_found) {
  two_sides sides;
  sides.there.on_resume = [&]() -> result<void> {
    *sides.place.first_byte() ^= std::byte{1};
    return {};
  };
  const auto ended = sides.migrate();
  sides.check(ended);
  BOOST_REQUIRE(ended.source->has_error());
  BOOST_TEST(ended.source->error().code == make_error_code(errc::not_identical));
  BOOST_TEST(says(ended.source->error(), "ram0"));
  BOOST_TEST(!says(ended.source->error(), "ram1"));
  BOOST_TEST(says(ended.source->error(), "runs at the destination"));
  BOOST_REQUIRE(ended.destination->has_error());
  BOOST_TEST(ended.destination->error().code == make_error_code(errc::not_identical));
}

// covers R35
BOOST_AUTO_TEST_CASE(a_destination_without_room_says_so_and_the_source_runs_on) {
  two_sides sides({200, 100});
  const auto ended = sides.migrate();
  sides.check(ended);
  BOOST_REQUIRE(ended.source->has_error());
  BOOST_TEST(ended.source->error().code == make_error_code(errc::protocol));
  BOOST_TEST(says(ended.source->error(), "the peer refused"));
  BOOST_TEST(says(ended.source->error(), "no room for ram1"));
  BOOST_TEST(says(ended.source->error(), "the guest runs on here"));
  BOOST_TEST(says(ended.destination->error(), "the guest does not run here"));
  BOOST_TEST(sides.vm.running());
}

BOOST_AUTO_TEST_CASE(room_that_is_not_what_the_source_has_is_refused_before_any_page) {
  using spoil = void (*)(std::vector<ram_block>&);
  for (const spoil change :
       {spoil([](auto& blocks) { blocks[0].size -= page_bytes; }), spoil([](auto& blocks) { blocks[0].size += page_bytes; }),
        spoil([](auto& blocks) { blocks.pop_back(); }), spoil([](auto& blocks) { blocks.push_back(blocks[0]); }),
        spoil([](auto& blocks) { blocks.clear(); })}) {
    two_sides sides;
    sides.make_room = [&](const auto& wanted) {
      auto made = sides.place.make(wanted);
      change(*made);
      return made;
    };
    const auto ended = sides.migrate();
    sides.check(ended);
    BOOST_REQUIRE(ended.source->has_error());
    BOOST_TEST(says(ended.source->error(), "the peer refused"));
    BOOST_TEST(sides.vm.running());
    BOOST_TEST(sides.at_destination[0].read_bytes < page_bytes);
  }
}

// The destination meets the frame that it refuses while the source is still sending: the source sees its connection break,
// and says why.
BOOST_AUTO_TEST_CASE(the_reason_of_a_refusal_in_the_middle_of_pre_copy_reaches_the_source) {
  two_sides sides({200, 3});
  {
    two_sides whole({200, 3});
    BOOST_REQUIRE(whole.migrate().source->has_value());
    sides.at_destination[0].flip_read = {heads_in(whole.at_destination[0].read)[20]};
  }
  const auto ended = sides.migrate();
  sides.check(ended);
  BOOST_REQUIRE(ended.source->has_error());
  BOOST_TEST(ended.source->error().code == make_error_code(errc::protocol));
  BOOST_TEST(says(ended.source->error(), "the peer refused"));
  BOOST_TEST(says(ended.source->error(), "not a Tidemark migration stream"));
  BOOST_TEST(says(ended.source->error(), "the guest runs on here"));
  BOOST_TEST(sides.vm.running());
}

// covers R35
BOOST_AUTO_TEST_CASE(a_guest_that_cannot_be_paused_runs_on) {
  two_sides sides;
  sides.vm.on_pause = []() -> result<void> { return make_error(operation::migrate, errc::closed, {}, "a vCPU is stuck"); };
  const auto ended = sides.migrate();
  sides.check(ended);
  BOOST_REQUIRE(ended.source->has_error());
  BOOST_TEST(says(ended.source->error(), "a vCPU is stuck"));
  BOOST_TEST(sides.vm.running());
}

BOOST_AUTO_TEST_CASE(a_guest_that_cannot_be_resumed_at_the_source_is_not_said_to_run) {
  two_sides sides;
  sides.vm.on_resume = []() -> result<void> { return make_error(operation::migrate, errc::closed, {}, "a vCPU is lost"); };
  sides.there.on_resume = [] { return result<void>{}; };
  {
    two_sides whole;
    BOOST_REQUIRE(whole.migrate().source->has_value());
    sides.at_source[0].flip_read = {head_of(whole.at_source[0].read, frame_type::ready) + 20};
  }
  const auto ended = sides.migrate();
  BOOST_REQUIRE(ended.source->has_error());
  BOOST_TEST(says(ended.source->error(), "a vCPU is lost"));
  BOOST_TEST(!says(ended.source->error(), "runs on here"));
  BOOST_TEST(!sides.there.running());
  BOOST_TEST(!sides.host.tracking());
}

BOOST_AUTO_TEST_CASE(a_guest_that_cannot_be_resumed_at_the_destination_leaves_the_source_undecided_and_told_why) {
  two_sides sides;
  sides.there.on_resume = []() -> result<void> {
    return make_error(operation::migrate, errc::closed, {}, "no such machine type");
  };
  const auto ended = sides.migrate();
  sides.check(ended);
  BOOST_REQUIRE(ended.source->has_error());
  BOOST_TEST(ended.source->error().code == make_error_code(errc::undecided));
  BOOST_TEST(says(ended.source->error(), "no such machine type"));
  BOOST_TEST(says(ended.destination->error(), "the guest does not run here"));
}

// covers R35
BOOST_AUTO_TEST_CASE(wherever_the_connection_breaks_the_invariants_hold) {
  two_sides_of_a_page whole;
  BOOST_REQUIRE(whole.migrate().source->has_value());
  const auto forth = whole.at_source[0].written_bytes;
  const auto back = whole.at_source[0].read_bytes;
  BOOST_TEST(forth > 2 * page_bytes);
  unsigned ran_on = 0, undecided = 0, moved = 0;
  const auto run = [&](std::uint64_t cut_forth, std::uint64_t cut_back) {
    BOOST_TEST_CONTEXT("cut after " << cut_forth << " bytes forth, " << cut_back << " back") {
      two_sides_of_a_page sides;
      sides.wire.cuts = {{cut_forth, cut_back}};
      const auto ended = sides.migrate();
      sides.check(ended);
      if (sides.there.running()) BOOST_TEST(sides.same_memory());
      ran_on += sides.vm.running();
      moved += sides.there.running();
      undecided += !sides.vm.running() && !sides.there.running();
    }
  };
  for (std::uint64_t cut = 0; cut <= forth; ++cut) run(cut, connection::never);
  for (std::uint64_t cut = 0; cut <= back; ++cut) run(connection::never, cut);
  // Only the bytes of `go` leave it open whether the destination runs, and there it does not; and a way back that breaks
  // right behind `ready`: before the source sees that, it has given its promise.
  BOOST_TEST(undecided == sizeof(frame_head) + 1);
  BOOST_TEST(moved > 0u);
  BOOST_TEST(ran_on + undecided + moved == forth + back + 2);
}

BOOST_AUTO_TEST_CASE(a_migration_can_be_cancelled_at_any_moment_before_the_switchover_and_tried_again) {
  bool cancelled_while_paused = false;
  for (unsigned turns = 0; turns < 3000; turns += 7) {
    two_sides sides({12, 3});
    unsigned turn = 0;
    bool was_running = true;
    const auto ended = sides.migrate([&](source& sender) {
      if (turn++ != turns) return;
      was_running = sides.vm.running();
      sender.cancel();
    });
    sides.check(ended);
    if (turn < turns) break;
    if (ended.source->has_value()) continue;  // it was too late
    const bool after_the_switchover = sides.there.running();
    BOOST_REQUIRE(!after_the_switchover);
    BOOST_TEST(ended.source->error().code == boost::system::error_code(boost::asio::error::operation_aborted));
    BOOST_TEST(sides.vm.running());
    cancelled_while_paused |= !was_running;
    if (turns % 5 != 0) continue;
    sides.place = {};
    const auto again = sides.migrate();
    sides.check(again);
    BOOST_TEST(again.source->has_value());
    BOOST_TEST(sides.same_memory());
  }
  BOOST_TEST(cancelled_while_paused);
}

BOOST_AUTO_TEST_CASE(cancel_ends_a_migration_whose_destination_stands_still) {
  for (const auto after : {0us, 500us, 1'000'000us})       // before it is connected, while it is being, long after
    for (const std::uint64_t takes_bytes : {0u, 2000u}) {  // it does not take the hello; it does not answer it
      two_sides sides({40, 3});
      const auto ended = cancelled_before_silence(sides, takes_bytes, after);
      BOOST_REQUIRE(ended.has_error());
      BOOST_TEST(ended.error().code == boost::system::error_code(boost::asio::error::operation_aborted));
      BOOST_TEST(sides.vm.running());
      BOOST_TEST(!sides.host.tracking());
    }
}

BOOST_AUTO_TEST_CASE(a_migration_that_fails_before_tracking_leaves_the_tracking_of_others_alone) {
  two_sides sides({200, 100});  // no room for these
  dirty_stream other(sides.host.space(), {});
  BOOST_REQUIRE(sides.host.wait([&](auto token) { return other.async_start(token); }).has_value());
  const auto ended = sides.migrate();
  BOOST_TEST(ended.source->has_error());
  BOOST_TEST(sides.host.tracking());
  BOOST_REQUIRE(sides.host.wait([&](auto token) { return other.async_stop(token); }).has_value());
}

}  // namespace tidemark::migrate
