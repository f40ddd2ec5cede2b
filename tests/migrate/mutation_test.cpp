// SPDX-License-Identifier: Apache-2.0
//
// Frames that were good once, with bytes changed at random: into a destination whose blocks stand between pages that nobody
// may touch, and into a live conversation, both ways.

#include <boost/test/unit_test.hpp>

#include <random>

#include "migrate/two_sides.hpp"

namespace tidemark::migrate {

namespace {

/// What a source says in a whole migration: runs of pages of every kind, packed in this way.
tests::bytes recording(compression pages = compression::none) {
  two_sides sides({12, 3});
  sides.options.pages = pages;
  auto* memory = sides.host.space().blocks()[0].host;
  std::memset(memory + 4 * page_bytes, 0, 2 * page_bytes);
  std::memset(memory + 7 * page_bytes, 0x5a, 3 * page_bytes);
  const auto ended = sides.migrate();
  BOOST_REQUIRE(ended.source->has_value());
  BOOST_REQUIRE((*ended.source)->zero_bytes != 0u);
  BOOST_REQUIRE((*ended.source)->repeated_bytes != 0u);
  return sides.at_destination[0].read;
}

constexpr compression packings[] = {compression::none, compression::lz4, compression::zstd};

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

BOOST_AUTO_TEST_CASE(what_was_recorded_is_taken_over_when_played) {
  for (const auto pages : packings) BOOST_TEST(play(recording(pages)));
}

BOOST_AUTO_TEST_CASE(changed_bytes_never_write_outside_the_blocks) {
  const tests::bytes good[] = {recording(packings[0]), recording(packings[1]), recording(packings[2])};
  std::mt19937_64 random(1);
  for (unsigned round = 0; round < 4500; ++round) {
    auto said = good[round % 3];
    for (auto flips = 1 + random() % 3; flips != 0; --flips)
      said[random() % said.size()] ^= static_cast<unsigned char>(1 + random() % 255);
    if (random() % 4 == 0) said.resize(random() % said.size());
    play(std::move(said));
  }
}

BOOST_AUTO_TEST_CASE(lies_with_good_checksums_never_write_outside_the_blocks) {
  std::mt19937_64 random(2);
  for (const auto pages : packings) {
    const auto good = recording(pages);
    const auto heads = heads_in(good);
    BOOST_TEST(heads.size() >= 5u);
    for (int round = 0; round < 3000; ++round) {
      auto said = good;
      lie(said, heads[random() % heads.size()], random);
      play(std::move(said));
    }
  }
}

namespace {

/// Where the payload of each `pages` frame lies.
std::vector<std::pair<std::size_t, std::size_t>> payloads_in(const tests::bytes& said) {
  std::vector<std::pair<std::size_t, std::size_t>> all;
  for (const auto at : heads_in(said)) {
    frame_head head;
    std::memcpy(&head, said.data() + at, sizeof head);
    if (head.payload_bytes != 0) all.emplace_back(at + sizeof head + head.body_bytes, head.payload_bytes);
  }
  return all;
}

}  // namespace

// Every page has a checksum under a key: with it, no page arrives changed.
BOOST_AUTO_TEST_CASE(a_changed_page_is_never_taken_over) {
  const auto good = recording();
  for (const auto& [begin, bytes] : payloads_in(good))
    for (std::size_t at = 0; at < bytes; at += 61) {
      auto said = good;
      said[begin + at] ^= 4;
      BOOST_TEST(!play(std::move(said)));
    }
}

// What is said of the pages may be a lie, but for one that says the same in another way: then they are other pages than the
// checksum says.
BOOST_AUTO_TEST_CASE(a_changed_run_with_a_good_checksum_is_never_taken_over) {
  const auto good = recording();
  unsigned tried = 0;
  for (const auto head_at : heads_in(good)) {
    frame_head head;
    std::memcpy(&head, good.data() + head_at, sizeof head);
    if (head.type != frame_type::pages) continue;
    const auto runs_at = head_at + sizeof head + sizeof(pages_head);
    for (auto run_at = runs_at; run_at < head_at + sizeof head + head.body_bytes; run_at += sizeof(wire_run)) {
      wire_run run;
      std::memcpy(&run, good.data() + run_at, sizeof run);
      run.kind = run.kind == page_kind::data ? page_kind::zero : page_kind::data;
      auto said = good;
      std::memcpy(said.data() + run_at, &run, sizeof run);
      const std::string_view body(reinterpret_cast<const char*>(said.data()) + head_at + sizeof head, head.body_bytes);
      const auto again = make_head(head.type, head.sequence, body, head.payload_bytes);
      std::memcpy(said.data() + head_at, &again, sizeof again);
      BOOST_TEST(!play(std::move(said)));
      ++tried;
    }
  }
  BOOST_TEST(tried > 5u);
}

namespace {

/// A peer that makes up his own frames, and knows how: numbers and checksums are good.
class liar {
 public:
  liar& say(frame_type type, const std::string& body = {}, const std::vector<std::byte>& payload = {}) {
    const auto head = make_head(type, sequence_++, body, payload.size());
    const auto at = said_.size();
    said_.resize(at + sizeof head + body.size() + payload.size());
    std::memcpy(said_.data() + at, &head, sizeof head);
    std::memcpy(said_.data() + at + sizeof head, body.data(), body.size());
    if (!payload.empty()) std::memcpy(said_.data() + at + sizeof head + body.size(), payload.data(), payload.size());
    return *this;
  }
  liar& say_hello(unsigned channels = 1) {
    return say(frame_type::hello, encode_hello({key_of(), channels, 1, 0, false, {{"ram0", 8 * page_bytes}}, {}}));
  }
  liar& say_pages(const std::vector<wire_run>& runs, const std::vector<std::byte>& payload = {}, packing how = packing::none,
                  std::uint64_t checksum = XXH3_64bits(nullptr, 0)) {
    return say(frame_type::pages, encode_pages({how, 1, checksum}, runs), payload);
  }
  /// All is said that follows: whoever believes it takes the guest over.
  bool taken_over() {
    say(frame_type::final).say(frame_type::go).say(frame_type::checksums, R"({"blocks":[]})");
    return play(said_);
  }

 private:
  static session key_of() { return {}; }

  tests::bytes said_;
  std::uint64_t sequence_ = 0;
};

}  // namespace

BOOST_AUTO_TEST_CASE(a_peer_that_makes_up_good_frames_is_believed) {
  BOOST_TEST(liar().say_hello().taken_over());
  BOOST_TEST(liar().say_hello().say_pages({{0, page_kind::zero, 0, 8, 0, 0}}).taken_over());
  BOOST_TEST(
      liar().say_hello().say_pages(std::vector<wire_run>(frame_runs_max, {0, page_kind::zero, 3, 1, 0, 0})).taken_over());
}

BOOST_AUTO_TEST_CASE(frames_over_their_bounds_or_in_the_wrong_place_are_never_taken_over) {
  const std::vector<std::byte> page(page_bytes, std::byte{1});
  const std::vector<std::byte> much(payload_bytes_max + page_bytes, std::byte{1});
  const wire_run data{0, page_kind::data, 0, 1, 0, 0};
  BOOST_TEST(!liar().taken_over());
  BOOST_TEST(!liar().say_hello(2).taken_over());  // the other channel never comes
  BOOST_TEST(!liar().say_hello().say_hello().taken_over());
  BOOST_TEST(!liar().say_hello().say(frame_type::join, encode_join({{}, 1, 1})).taken_over());
  BOOST_TEST(!liar().say_hello().say(frame_type::taken, encode_taken(0)).taken_over());
  BOOST_TEST(!liar().say_hello().say(frame_type::welcome, encode_welcome({true, true})).taken_over());
  BOOST_TEST(!liar().say_hello().say(frame_type::go).taken_over());
  BOOST_TEST(!liar().say_hello().say(frame_type::device, encode_device({0, 1, 0}), page).taken_over());
  BOOST_TEST(!liar().say_hello().say(frame_type::pages, {}, page).taken_over());
  BOOST_TEST(!liar().say_hello().say_pages({data}, page).taken_over());  // the checksum is of no page
  BOOST_TEST(!liar().say_hello().say_pages({data}, much).taken_over());
  BOOST_TEST(!liar().say_hello().say_pages({{0, page_kind::zero, 0, 9, 0, 0}}).taken_over());
  BOOST_TEST(!liar().say_hello().say_pages({{0, page_kind::repeated, 0, 4, 0, 5}}).taken_over());
  BOOST_TEST(!liar().say_hello().say_pages({{0, page_kind::repeated, 0, 4, 7, 0}}).taken_over());
  for (const auto how : {packing::lz4, packing::zstd, packing{9}}) {
    BOOST_TEST(!liar().say_hello().say_pages({data}, {}, how).taken_over());
    BOOST_TEST(!liar().say_hello().say_pages({data}, std::vector<std::byte>(100, std::byte{0xff}), how).taken_over());
  }
  // More than its bound, said to be packed well: nothing so large is made room for.
  BOOST_TEST(!liar()
                  .say_hello()
                  .say_pages(std::vector<wire_run>(300, {0, page_kind::data, 0, 8, 0, 0}), page, packing::zstd)
                  .taken_over());
  BOOST_TEST(!liar()
                  .say_hello()
                  .say_pages(std::vector<wire_run>(frame_runs_max, {0, page_kind::repeated, 0, 4, 0, 4}))
                  .taken_over());
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
