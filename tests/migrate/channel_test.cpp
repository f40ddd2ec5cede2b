// SPDX-License-Identifier: Apache-2.0

#include "migrate/channel.hpp"

#include <boost/test/unit_test.hpp>

#include <cstring>

#include "migrate/streams.hpp"
#include "migrate/two_sides.hpp"

namespace tidemark::migrate {

using namespace std::chrono_literals;

namespace {

/// Blocks of untouched memory: address space, and no page of it in use.
struct untouched {
  explicit untouched(std::uint64_t pages)
      : memory(pages * page_bytes), blocks{{"ram", memory.bytes().data(), memory.bytes().size()}} {}
  simulation::memory memory;
  std::vector<ram_block> blocks;
};

std::vector<page_run> one_run(std::uint64_t first_page, std::uint64_t pages) { return {page_run{0, first_page, pages}}; }

/// Sends frames of `pages` pages until `end`.
ring::task<> keep_sending(channel& to, const untouched& from, std::uint64_t pages, ring::clock::time_point end) {
  while (to.loop().now() < end) (void)co_await to.send_pages(one_run(0, pages), from.blocks);
}

/// Bytes that leave in a second, when each write takes up to `write_time` and the frames wait for each other.
std::uint64_t bytes_in_a_second(std::uint64_t bandwidth, std::uint64_t pages, std::chrono::nanoseconds write_time) {
  tests::manual_loop loop;
  loop.set_now(ring::clock::time_point(5h));
  simulation::chance luck(1);
  std::uint64_t sent = 0;
  const untouched from(pages);
  channel to(loop, std::make_unique<tests::sink_stream>([&](std::span<const iovec> parts) -> ring::task<void> {
               sent += tests::size_of(parts);
               ring::timer pause(loop);
               if (write_time != 0ns) co_await pause.until(loop.now() + luck.within(write_time));
             }),
             bandwidth);
  const auto end = loop.now() + 1s;
  for (int sender = 0; sender < 4; ++sender) ring::start(keep_sending(to, from, pages, end));
  loop.run_for(1s);
  const auto in_time = sent;
  loop.run();
  return in_time;
}

void check_near(std::uint64_t sent, std::uint64_t wanted) {
  BOOST_TEST(sent > wanted * 97 / 100);
  BOOST_TEST(sent < wanted * 103 / 100);
}

}  // namespace

BOOST_AUTO_TEST_CASE(a_channel_keeps_to_its_bandwidth) {
  check_near(bytes_in_a_second(100'000'000, 16, 0ns), 100'000'000);
  check_near(bytes_in_a_second(100'000'000, 1, 0ns), 100'000'000);
  check_near(bytes_in_a_second(10'000'000'000, 64, 0ns), 10'000'000'000);
  check_near(bytes_in_a_second(100'000'000, 16, 600us), 100'000'000);  // writes that take time of their own are made good
}

// Frames of pages wait for bandwidth, and what follows them for its turn: nothing overtakes.
BOOST_AUTO_TEST_CASE(frames_leave_in_the_order_they_were_sent_and_are_numbered) {
  tests::manual_loop loop;
  std::vector<frame_head> heads;
  const untouched from(10);
  channel to(loop, std::make_unique<tests::sink_stream>([&](std::span<const iovec> parts) -> ring::task<void> {
               std::memcpy(&heads.emplace_back(), parts[0].iov_base, sizeof(frame_head));
               co_return;
             }),
             1'000'000);
  const auto send = [](channel& out, const untouched& pages, std::uint64_t count) -> ring::task<> {
    (void)co_await out.send_pages(one_run(0, count), pages.blocks);
  };
  ring::start(send(to, from, 10));
  ring::start(send(to, from, 1));
  ring::start([](channel& out) -> ring::task<> { (void)co_await out.send(frame_type::final, "{}"); }(to));
  loop.run();
  BOOST_REQUIRE(heads.size() == 3u);
  for (std::size_t i = 0; i < heads.size(); ++i) BOOST_TEST(check_head(heads[i], i).has_value());
  BOOST_TEST(heads[0].payload_bytes == 10 * page_bytes);
  BOOST_TEST((heads[2].type == frame_type::final));
}

// A batch is bounded by its stream only: what is more than one frame may carry goes in several.
BOOST_AUTO_TEST_CASE(more_pages_or_runs_than_a_frame_may_carry_go_in_several_frames) {
  tests::manual_loop loop;
  const untouched from(300'000);
  std::uint64_t frames = 0;
  std::uint64_t pages = 0;
  channel to(loop, std::make_unique<tests::sink_stream>([&](std::span<const iovec> parts) -> ring::task<void> {
               frame sent;
               std::memcpy(&sent.head, parts[0].iov_base, sizeof sent.head);
               sent.body.assign(static_cast<const char*>(parts[1].iov_base), parts[1].iov_len);
               BOOST_TEST(check_head(sent.head, frames++).has_value());
               BOOST_TEST(decode_runs(sent, from.blocks).has_value());
               BOOST_TEST(tests::size_of(parts.subspan(2)) == sent.head.payload_bytes);
               pages += sent.head.payload_bytes / page_bytes;
               co_return;
             }),
             0);
  std::vector<page_run> scattered;
  for (std::uint64_t page = 0; page < 100'000; page += 2) scattered.push_back({0, page, 1});
  const auto send = [](channel& out, std::vector<page_run> runs, const untouched& memory) -> ring::task<> {
    const auto sent = co_await out.send_pages(std::move(runs), memory.blocks);
    BOOST_TEST(sent.has_value());
  };
  ring::start(send(to, scattered, from));
  BOOST_TEST(pages == 50'000u);
  BOOST_TEST(frames == 2u);
  ring::start(send(to, one_run(0, 300'000), from));
  BOOST_TEST(pages == 350'000u);
  BOOST_TEST(frames == 4u);
}

}  // namespace tidemark::migrate
