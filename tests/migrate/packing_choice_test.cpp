// SPDX-License-Identifier: Apache-2.0

#include "migrate/packing_choice.hpp"

#include <boost/test/unit_test.hpp>

#include <array>

namespace tidemark::migrate {

namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t frame_bytes = 512 << 10;

/// A channel and pages as they are at a time: what packing takes, what it leaves, what the wire takes.
struct line {
  double wire_ns_per_byte;
  std::array<double, 3> pack_ns_per_byte;
  std::array<double, 3> ratio;
};
constexpr line fast_network{0.1, {0.02, 0.5, 2}, {1, 0.5, 0.4}};    // 10 GB/s: the pages as they are
constexpr line usual_network{1.0, {0.02, 0.3, 2}, {1, 0.5, 0.4}};   // 1 GB/s: lz4 takes less than it saves
constexpr line slow_network{20.0, {0.02, 0.3, 2}, {1, 0.5, 0.35}};  // 50 MB/s: zstd
constexpr line random_pages{1.0, {0.02, 0.3, 2}, {1, 1, 1}};        // nothing is saved

/// So many frames: how often each packing was chosen.
std::array<unsigned, 3> send(packing_choice& choice, const line& over, unsigned frames) {
  std::array<unsigned, 3> chosen{};
  for (; frames != 0; --frames) {
    const auto how = choice.next();
    const auto way = static_cast<std::size_t>(how);
    ++chosen[way];
    const auto wire_bytes = static_cast<std::uint64_t>(over.ratio[way] * frame_bytes);
    const auto took = [](double ns_per_byte, std::uint64_t bytes) {
      return std::chrono::nanoseconds(static_cast<std::int64_t>(ns_per_byte * static_cast<double>(bytes)));
    };
    choice.note(how, frame_bytes, wire_bytes, took(over.pack_ns_per_byte[way], frame_bytes),
                took(over.wire_ns_per_byte, wire_bytes));
  }
  return chosen;
}

void check_prefers(packing_choice& choice, const line& over, packing wanted) {
  send(choice, over, 400);
  const auto chosen = send(choice, over, 4000);
  BOOST_TEST(chosen[static_cast<std::size_t>(wanted)] > 3900u);
  for (const auto count : chosen) BOOST_TEST(count > 0u);  // the others are tried again and again
}

}  // namespace

BOOST_AUTO_TEST_SUITE(choice_of_packing)

BOOST_AUTO_TEST_CASE(what_was_asked_for_is_what_is_taken) {
  const std::array<std::pair<compression, packing>, 3> all{
      {{compression::none, packing::none}, {compression::lz4, packing::lz4}, {compression::zstd, packing::zstd}}};
  for (const auto& [wanted, how] : all) {
    packing_choice choice(wanted);
    for (const auto& over : {fast_network, slow_network})
      BOOST_TEST(send(choice, over, 2000)[static_cast<std::size_t>(how)] == 2000u);
  }
}

BOOST_AUTO_TEST_CASE(the_first_frames_are_not_packed_and_each_way_is_tried_soon) {
  packing_choice choice(compression::automatic);
  BOOST_TEST((choice.next() == packing::none));
  const auto chosen = send(choice, fast_network, 20);
  for (const auto count : chosen) BOOST_TEST(count > 0u);
}

BOOST_AUTO_TEST_CASE(what_pays_is_chosen) {
  for (const auto& [over, wanted] : {std::pair{fast_network, packing::none},
                                     {usual_network, packing::lz4},
                                     {slow_network, packing::zstd},
                                     {random_pages, packing::none}}) {
    packing_choice choice(compression::automatic);
    check_prefers(choice, over, wanted);
  }
}

BOOST_AUTO_TEST_CASE(a_change_of_the_network_or_of_the_pages_is_followed) {
  packing_choice choice(compression::automatic);
  check_prefers(choice, fast_network, packing::none);
  send(choice, slow_network, 1200);  // a trial comes after 512 frames at the latest
  check_prefers(choice, slow_network, packing::zstd);
  send(choice, random_pages, 1200);
  check_prefers(choice, random_pages, packing::none);
  send(choice, usual_network, 1200);
  check_prefers(choice, usual_network, packing::lz4);
}

BOOST_AUTO_TEST_CASE(a_frame_that_took_no_time_is_no_reason_to_change) {
  packing_choice choice(compression::automatic);
  for (int i = 0; i != 1000; ++i) choice.note(choice.next(), frame_bytes, frame_bytes, 0ns, 0ns);
  choice.note(packing::none, 0, 0, 0ns, 0ns);
  unsigned plain = 0;
  for (int i = 0; i != 100; ++i) plain += choice.next() == packing::none;
  BOOST_TEST(plain > 90u);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace tidemark::migrate
