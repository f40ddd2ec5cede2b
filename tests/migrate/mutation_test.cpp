// SPDX-License-Identifier: Apache-2.0
//
// Frames that were good once, with bytes changed at random: into a destination whose blocks stand between pages that nobody
// may touch, and into a live conversation, both ways.

#include <boost/test/unit_test.hpp>

#include <random>

#include "migrate/two_sides.hpp"

namespace tidemark::migrate {

namespace {

/// What a source says in a whole migration.
tests::bytes recording() {
  two_sides sides({6, 3});
  BOOST_REQUIRE(sides.migrate().source->has_value());
  return sides.at_destination[0].read;
}

/// Plays to a destination; true if the guest was taken over.
bool play(tests::bytes said) {
  tests::manual_loop loop;
  simulation::chance luck(1);
  simulation::turn_workers threads(loop, luck);
  hooked_guest there(loop.get_executor(), false);
  room place;
  simulated_arrivals listening(loop);
  listening.offer(std::make_unique<tests::playing_stream>(std::move(said)));
  destination receiver(
      {loop.get_executor(), loop, listening, there, threads, [&](const auto& wanted) { return place.make(wanted); }});
  bool ended = false;
  ring::start([](destination& side, bool& done) -> ring::task<> {
    (void)co_await side.run();
    done = true;
  }(receiver, ended));
  loop.run();
  if (!ended && !place.made()) receiver.cancel();  // it goes on waiting for somebody who makes sense
  loop.run();
  BOOST_TEST(ended);
  return there.running();
}

/// Changes a number of a head or a byte of a body, and makes the checksums good again: a peer that lies, not a line that
/// fails.
void lie(tests::bytes& said, std::size_t head_at, std::mt19937_64& random) {
  frame_head head;
  std::memcpy(&head, said.data() + head_at, sizeof head);
  const auto body_at = head_at + sizeof head;
  const auto spoil = static_cast<unsigned char>(1 + random() % 255);
  if (head.body_bytes != 0 && random() % 2 != 0)
    said[body_at + random() % head.body_bytes] ^= spoil;
  else
    reinterpret_cast<unsigned char*>(&head)[offsetof(frame_head, type) + random() % 26] ^= spoil;
  const auto body_bytes = std::min<std::uint64_t>(head.body_bytes, said.size() - body_at);
  const std::string_view body(reinterpret_cast<const char*>(said.data()) + body_at, body_bytes);
  const auto again = make_head(head.type, head.sequence, body, head.payload_bytes);
  std::memcpy(said.data() + head_at, &again, sizeof again);
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_was_recorded_is_taken_over_when_played) { BOOST_TEST(play(recording())); }

BOOST_AUTO_TEST_CASE(changed_bytes_never_write_outside_the_blocks) {
  const auto good = recording();
  std::mt19937_64 random(1);
  for (int round = 0; round < 4000; ++round) {
    auto said = good;
    for (auto flips = 1 + random() % 3; flips != 0; --flips)
      said[random() % said.size()] ^= static_cast<unsigned char>(1 + random() % 255);
    if (random() % 4 == 0) said.resize(random() % said.size());
    play(std::move(said));
  }
}

BOOST_AUTO_TEST_CASE(lies_with_good_checksums_never_write_outside_the_blocks) {
  const auto good = recording();
  const auto heads = heads_in(good);
  BOOST_TEST(heads.size() >= 5u);
  std::mt19937_64 random(2);
  for (int round = 0; round < 6000; ++round) {
    auto said = good;
    lie(said, heads[random() % heads.size()], random);
    play(std::move(said));
  }
}

BOOST_AUTO_TEST_CASE(a_changed_head_or_body_is_never_taken_over) {
  const auto good = recording();
  const auto heads = heads_in(good);
  for (std::size_t i = 0; i + 1 < heads.size(); ++i) {  // the last is the checksums', which come after
    frame_head head;
    std::memcpy(&head, good.data() + heads[i], sizeof head);
    for (std::size_t at = 0; at < sizeof head + head.body_bytes; ++at) {
      auto said = good;
      said[heads[i] + at] ^= 4;
      BOOST_TEST(!play(std::move(said)));
    }
  }
}

// covers R35
BOOST_AUTO_TEST_CASE(a_line_that_changes_bytes_never_costs_the_guest) {
  two_sides whole;
  BOOST_REQUIRE(whole.migrate().source->has_value());
  std::mt19937_64 random(3);
  for (int round = 0; round < 1000; ++round) {
    two_sides sides;
    const bool forth = round % 2 == 0;
    auto& spoilt = (forth ? sides.at_destination : sides.at_source)[0];
    spoilt.flip_read = {random() % (forth ? whole.at_destination : whole.at_source)[0].read_bytes};
    BOOST_TEST_CONTEXT((forth ? "forth" : "back") << ", byte " << spoilt.flip_read.front()) {
      const auto ended = sides.migrate();
      sides.check(ended);
      if (*ended.source) BOOST_TEST(sides.same_memory());
      BOOST_TEST((sides.vm.running() || ended.source->has_value() || sides.there.running() ||
                  ended.source->error().code == make_error_code(errc::undecided)));
    }
  }
}

}  // namespace tidemark::migrate
