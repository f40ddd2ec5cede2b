// SPDX-License-Identifier: Apache-2.0

#include "migrate/channel.hpp"

#include <boost/test/unit_test.hpp>

#include <cerrno>
#include <cstring>
#include <utility>

#include "migrate/streams.hpp"
#include "migrate/two_sides.hpp"

namespace tidemark::migrate {

using namespace std::chrono_literals;

namespace {

/// Sends frames of `payload_bytes` until `end`.
ring::task<> keep_sending(channel& to, std::vector<std::byte>& payload, ring::clock::time_point end) {
  while (to.loop().now() < end) {
    std::vector<iovec> parts(1, iovec{payload.data(), payload.size()});
    (void)co_await to.send(frame_type::pages, {}, std::move(parts));
  }
}

/// Bytes that leave in a second, when each write takes up to `write_time` and the frames wait for each other.
std::uint64_t bytes_in_a_second(std::uint64_t bandwidth, std::uint64_t pages, std::chrono::nanoseconds write_time) {
  tests::manual_loop loop;
  loop.set_now(ring::clock::time_point(5h));
  simulation::chance luck(1);
  std::uint64_t sent = 0;
  std::vector<std::byte> payload(pages * page_bytes);
  channel to(loop, std::make_unique<tests::sink_stream>([&](std::span<const iovec> parts) -> ring::task<void> {
               sent += tests::size_of(parts);
               ring::timer pause(loop);
               if (write_time != 0ns) co_await pause.until(loop.now() + luck.within(write_time));
             }));
  to.set_bandwidth(bandwidth);
  const auto end = loop.now() + 1s;
  for (int sender = 0; sender < 4; ++sender) ring::start(keep_sending(to, payload, end));
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

// Frames with a payload wait for bandwidth, and what follows them for its turn: nothing overtakes.
BOOST_AUTO_TEST_CASE(frames_leave_in_the_order_they_were_sent_and_are_numbered) {
  tests::manual_loop loop;
  std::vector<frame_head> heads;
  std::vector<std::uint64_t> numbers(3);
  std::vector<std::byte> memory(10 * page_bytes);
  channel to(loop, std::make_unique<tests::sink_stream>([&](std::span<const iovec> parts) -> ring::task<void> {
               std::memcpy(&heads.emplace_back(), parts[0].iov_base, sizeof(frame_head));
               co_return;
             }));
  to.set_bandwidth(1'000'000);
  const auto send = [&](std::size_t number, frame_type type, std::string body, std::uint64_t payload_bytes) -> ring::task<> {
    std::vector<iovec> parts;
    if (payload_bytes != 0) parts.push_back({memory.data(), payload_bytes});
    auto sent = co_await to.send(type, std::move(body), std::move(parts));
    BOOST_REQUIRE(sent.has_value());
    numbers[number] = *sent;
  };
  ring::start(send(0, frame_type::pages, {}, 10 * page_bytes));
  ring::start(send(1, frame_type::device, {}, page_bytes));
  ring::start(send(2, frame_type::final, "{}", 0));
  loop.run();
  BOOST_REQUIRE(heads.size() == 3u);
  for (std::size_t i = 0; i < heads.size(); ++i) BOOST_TEST(check_head(heads[i], i).has_value());
  BOOST_TEST(heads[0].payload_bytes == 10 * page_bytes);
  BOOST_TEST((heads[2].type == frame_type::final));
  const std::vector<std::uint64_t> in_order{0, 1, 2};
  BOOST_TEST(numbers == in_order, boost::test_tools::per_element());
  BOOST_TEST(to.wire_bytes() == 3 * sizeof(frame_head) + 11 * page_bytes + 2);
}

BOOST_AUTO_TEST_CASE(a_change_of_bandwidth_counts_from_the_next_frame) {
  tests::manual_loop loop;
  std::uint64_t sent = 0;
  std::vector<std::byte> payload(16 * page_bytes);
  channel to(loop, std::make_unique<tests::sink_stream>([&](std::span<const iovec> parts) -> ring::task<void> {
               sent += tests::size_of(parts);
               co_return;
             }));
  to.set_bandwidth(10'000'000);
  const auto end = loop.now() + 2s;
  ring::start(keep_sending(to, payload, end));
  loop.run_for(1s);
  check_near(std::exchange(sent, 0), 10'000'000);
  to.set_bandwidth(50'000'000);
  loop.run_for(1s);
  check_near(sent, 50'000'000);
  loop.run();
}

BOOST_AUTO_TEST_CASE(only_a_connection_that_failed_counts_as_broken) {
  for (const int number :
       {ECONNRESET, ECONNREFUSED, ECONNABORTED, EPIPE, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ENETDOWN, ENOENT})
    BOOST_TEST(is_broken_connection(kernel_error(operation::send, number, {}, {})));
  BOOST_TEST(is_broken_connection(make_error(operation::receive, errc::peer_closed)));
  BOOST_TEST(!is_broken_connection(make_error(operation::receive, errc::closed)));
  BOOST_TEST(!is_broken_connection(make_error(operation::receive, errc::protocol)));
  BOOST_TEST(!is_broken_connection(kernel_error(operation::send, ENOMEM, {}, {})));
}

}  // namespace tidemark::migrate
