// SPDX-License-Identifier: Apache-2.0

#include "ring/socket.hpp"

#include <boost/test/unit_test.hpp>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "ring/condition.hpp"
#include "ring/connection.hpp"
#include "ring/descriptor.hpp"

using namespace tidemark;
using namespace tidemark::ring;
using namespace tidemark::tests;

namespace {

/// Listens, and lets nobody in.
class full_door {
 public:
  full_door() {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size_bytes = sizeof at;
    const auto* generic = reinterpret_cast<const sockaddr*>(&at);
    BOOST_REQUIRE(bind(door_.get(), generic, size_bytes) == 0);
    BOOST_REQUIRE(listen(door_.get(), 0) == 0);
    BOOST_REQUIRE(getsockname(door_.get(), reinterpret_cast<sockaddr*>(&at), &size_bytes) == 0);
    BOOST_REQUIRE(::connect(first_.get(), generic, size_bytes) == 0);
    port_ = ntohs(at.sin_port);
  }
  std::uint16_t port() const noexcept { return port_; }

 private:
  descriptor door_{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  descriptor first_{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::uint16_t port_ = 0;
};

/// Of this process's connection to that port.
std::string congestion_control_to(std::uint16_t port) {
  constexpr int descriptors = 1024;
  for (int fd = 0; fd != descriptors; ++fd) {
    sockaddr_in peer{};
    socklen_t size_bytes = sizeof peer;
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size_bytes) != 0 || ntohs(peer.sin_port) != port) continue;
    std::array<char, 16> name{};
    socklen_t letters = name.size();
    BOOST_REQUIRE(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &letters) == 0);
    return name.data();
  }
  return "no connection";
}

/// Of a connection to this host for which that was asked.
std::string congestion_control_taken(const std::string& asked) {
  const auto owner = make_loop();
  const auto door = listener::open(*owner, loopback(0)).value();
  const auto peer = loopback(door->port());
  std::string taken;
  const auto work = [&]() -> task<> {
    const auto stream = co_await connect(*owner, peer, asked);
    BOOST_TEST_REQUIRE(stream.has_value());
    taken = congestion_control_to(door->port());
  };
  run_on(*owner, work());
  return taken;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(socket_suite)

BOOST_AUTO_TEST_CASE(addresses_are_read_as_numbers_and_names) {
  const auto four = resolve("127.0.0.1:4711").value();
  const auto& in4 = reinterpret_cast<const sockaddr_in&>(four.places.at(0).socket);
  BOOST_TEST(in4.sin_family == AF_INET);
  BOOST_TEST(ntohs(in4.sin_port) == 4711);
  const auto six = resolve("[::1]:65535").value();
  const auto& in6 = reinterpret_cast<const sockaddr_in6&>(six.places.at(0).socket);
  BOOST_TEST(in6.sin6_family == AF_INET6);
  BOOST_TEST(ntohs(in6.sin6_port) == 65535);
}

BOOST_AUTO_TEST_CASE(a_name_resolves_where_the_host_knows_it) {
  // A bare machine may have no /etc/hosts: what getaddrinfo(3) knows is what resolve() must know.
  addrinfo* found = nullptr;
  const bool known = getaddrinfo("localhost", nullptr, nullptr, &found) == 0;
  if (known) freeaddrinfo(found);
  const auto resolved = resolve("localhost:1");
  BOOST_TEST(resolved.has_value() == known);
  if (known) BOOST_TEST(!resolved->places.empty());
}

BOOST_AUTO_TEST_CASE(bad_addresses_get_one_clear_error) {
  for (const char* bad : {"", ":", "host", "host:", ":80", "host:65536", "host:-1", "host:+1", "host: 1", "host:1x",
                          "::1:80", "[::1]", "[::1]80", "[]:80", "[host]:80", "[::1:80", "::1]:80"}) {
    const auto answer = resolve(bad);
    BOOST_TEST_CONTEXT(bad) {
      BOOST_TEST_REQUIRE(answer.has_error());
      BOOST_TEST(answer.error().code.value() == EINVAL);
      BOOST_TEST(says(answer.error().detail, "write HOST:PORT"));
    }
  }
}

BOOST_AUTO_TEST_CASE(random_gathers_arrive_whole_both_ways_at_once) {
  const auto owner = make_loop();
  connection pair(*owner);
  both_ways traffic;
  run_on(*owner, traffic.run(*pair.left, *pair.right));
  BOOST_TEST(traffic.arrived());
}

BOOST_AUTO_TEST_CASE(read_some_takes_what_is_there_and_waits_for_the_first_byte) {
  const auto owner = make_loop();
  connection pair(*owner);
  const auto work = [&]() -> task<> {
    std::vector<std::byte> room(100);
    BOOST_TEST((co_await pair.right->read_some(std::span<std::byte>())).value() == 0u);
    std::vector<char> three{'a', 'b', 'c'};
    iovec part{three.data(), three.size()};
    BOOST_TEST((co_await pair.left->write({&part, 1})).has_value());
    BOOST_TEST((co_await pair.right->read_some(std::span(room).first(2))).value() == 2u);
    BOOST_TEST((co_await pair.right->read_some(room)).value() == 1u);
    BOOST_TEST((room[0] == std::byte{'c'}));
    pair.left.reset();
    BOOST_TEST(((co_await pair.right->read_some(room)).error().code == errc::peer_closed));
    pair.right->close();
    BOOST_TEST(((co_await pair.right->read_some(room)).error().code == errc::closed));
  };
  run_on(*owner, work());
}

BOOST_AUTO_TEST_CASE(one_call_takes_ten_thousand_parts_and_consumes_them) {
  const auto owner = make_loop();
  connection pair(*owner);
  auto sent = random_bytes(10'000 * 16, 1);
  std::vector<char> received(sent.size());
  std::vector<iovec> out, in;
  for (std::size_t at = 0; at < sent.size(); at += 16) {
    out.push_back({sent.data() + at, 16});
    in.push_back({received.data() + at, 16});
  }
  const auto write = [&]() -> task<> { BOOST_TEST((co_await pair.left->write(out)).has_value()); };
  const auto work = [&]() -> task<> {
    start(write());
    BOOST_TEST((co_await pair.right->read(in)).has_value());
  };
  run_on(*owner, work());
  BOOST_TEST((sent == received));
  BOOST_TEST(
      std::accumulate(in.begin(), in.end(), std::size_t{0}, [](auto sum, auto& part) { return sum + part.iov_len; }) == 0u);
}

BOOST_AUTO_TEST_CASE(no_bytes_are_moved_without_waiting) {
  const auto owner = make_loop();
  connection pair(*owner);
  const auto work = [&]() -> task<> {
    BOOST_TEST((co_await pair.left->read({})).has_value());
    iovec empty{nullptr, 0};
    BOOST_TEST((co_await pair.left->read({&empty, 1})).has_value());
    BOOST_TEST((co_await pair.left->write({&empty, 1})).has_value());
  };
  run_on(*owner, work());
}

BOOST_AUTO_TEST_CASE(a_peer_that_closes_in_the_middle_is_named_so) {
  const auto owner = make_loop();
  connection pair(*owner);
  const auto work = [&]() -> task<> {
    BOOST_TEST((co_await write_one(*pair.left, 'x')).has_value());
    pair.left.reset();
    std::vector<char> two(2);
    iovec part{two.data(), two.size()};
    const auto answer = co_await pair.right->read({&part, 1});
    BOOST_TEST_REQUIRE(answer.has_error());
    BOOST_TEST((answer.error().code == errc::peer_closed));
    BOOST_TEST((answer.error().what == operation::receive));
    BOOST_TEST(two[0] == 'x');
    BOOST_TEST(part.iov_len == 1u);
  };
  run_on(*owner, work());
}

BOOST_AUTO_TEST_CASE(writing_to_a_peer_that_went_away_fails_without_a_signal) {
  const auto owner = make_loop();
  connection pair(*owner);
  const auto work = [&]() -> task<> {
    // It closes with a byte unread: a reset, which the second write sees at the latest.
    BOOST_TEST((co_await write_one(*pair.left, 'x')).has_value());
    pair.right.reset();
    result<void> answer{};
    for (int i = 0; i < 100 && answer; ++i) answer = co_await write_one(*pair.left, 'y');
    BOOST_TEST_REQUIRE(answer.has_error());
    BOOST_TEST((answer.error().code == errc::peer_closed));
    BOOST_TEST((answer.error().what == operation::send));
  };
  run_on(*owner, work());
}

BOOST_AUTO_TEST_CASE(a_refused_connection_says_what_to_start) {
  const auto owner = make_loop();
  std::uint16_t port = 0;
  { port = listener::open(*owner, loopback(0)).value()->port(); }  // free again
  const auto peer = loopback(port);
  const auto work = [&]() -> task<> {
    const auto answer = co_await connect(*owner, peer);
    BOOST_TEST_REQUIRE(answer.has_error());
    BOOST_TEST(answer.error().code.value() == ECONNREFUSED);
    BOOST_TEST((answer.error().what == operation::connect_peer));
    BOOST_TEST(answer.error().detail == "nothing listens at " + peer.text + "; start the destination first");
  };
  run_on(*owner, work());
}

BOOST_AUTO_TEST_CASE(a_peer_that_is_silent_need_not_be_waited_for) {
  const full_door silent;
  const auto peer = loopback(silent.port());
  for (const bool at_once : {true, false}) {
    const auto owner = make_loop();
    connector one(*owner);
    bool ended = false;
    condition changed;
    const auto try_it = [&]() -> task<> {
      const auto answer = co_await one.connect(peer);
      BOOST_TEST((answer.has_error() && answer.error().code == errc::closed));
      ended = true;
      changed.notify();
    };
    const auto work = [&]() -> task<> {
      start(try_it());
      timer later(*owner);
      if (!at_once) co_await later.until(owner->now() + std::chrono::milliseconds(20));  // the kernel waits by then
      BOOST_TEST(!ended);
      one.close();
      while (!ended) co_await changed.wait();
    };
    const auto began = owner->now();
    run_on(*owner, work());
    BOOST_TEST((owner->now() - began < std::chrono::seconds(5)));  // long before the kernel gives up
  }
}

BOOST_AUTO_TEST_CASE(a_peer_that_is_silent_is_not_waited_for_as_long_as_the_kernel_would) {
  const full_door silent;
  const auto owner = make_loop();
  const auto peer = loopback(silent.port());
  const auto work = [&]() -> task<> {
    const auto answer = co_await connect(*owner, peer);
    BOOST_TEST_REQUIRE(answer.has_error());
    BOOST_TEST(answer.error().code.value() == ETIMEDOUT);
    BOOST_TEST(answer.error().detail.starts_with("nobody answered at " + peer.text), answer.error().detail);
  };
  const auto began = owner->now();
  run_on(*owner, work());
  BOOST_TEST((owner->now() - began < std::chrono::seconds(60)));  // by itself it tries for two minutes
}

BOOST_AUTO_TEST_CASE(what_is_sent_to_this_host_is_not_paced) { BOOST_TEST(congestion_control_taken("auto") == "reno"); }

BOOST_AUTO_TEST_CASE(a_congestion_control_that_is_named_is_taken) {
  std::ifstream allowed("/proc/sys/net/ipv4/tcp_allowed_congestion_control");
  unsigned tried = 0;
  for (std::string name; allowed >> name; ++tried) BOOST_TEST(congestion_control_taken(name) == name);
  BOOST_TEST(tried != 0u);
}

BOOST_AUTO_TEST_CASE(a_congestion_control_that_is_unknown_says_which_there_are) {
  const auto owner = make_loop();
  const auto door = listener::open(*owner, loopback(0)).value();
  const auto peer = loopback(door->port());
  const auto work = [&]() -> task<> {
    const auto answer = co_await connect(*owner, peer, "carrier-pigeon");
    BOOST_TEST_REQUIRE(answer.has_error());
    BOOST_TEST(answer.error().code.value() == ENOENT);
    BOOST_TEST(answer.error().detail ==
               "this kernel has no congestion control carrier-pigeon; "
               "net.ipv4.tcp_available_congestion_control lists those it has");
  };
  run_on(*owner, work());
}

BOOST_AUTO_TEST_CASE(a_name_with_several_places_is_tried_in_order) {
  const auto owner = make_loop();
  const auto door = listener::open(*owner, loopback(0)).value();
  auto peer = loopback(1);
  peer.places.push_back(loopback(door->port()).places.front());
  const auto work = [&]() -> task<> { BOOST_TEST((co_await connect(*owner, peer)).has_value()); };
  run_on(*owner, work());
}

BOOST_AUTO_TEST_CASE(a_port_in_use_says_who_to_ask) {
  const auto owner = make_loop();
  const auto door = listener::open(*owner, loopback(0)).value();
  const auto second = listener::open(*owner, loopback(door->port()));
  BOOST_TEST_REQUIRE(second.has_error());
  BOOST_TEST(second.error().code.value() == EADDRINUSE);
  BOOST_TEST(says(second.error().detail, "ss -ltnp"));
}

BOOST_AUTO_TEST_CASE(close_ends_a_read_and_a_write_that_wait) {
  const auto owner = make_loop();
  connection pair(*owner);
  std::vector<char> large(std::size_t{64} << 20);
  int ended = 0;
  latch done(2);
  const auto expect_closed = [&](task<result<void>> work) -> task<> {
    const auto answer = co_await std::move(work);
    ended += answer.has_error() && answer.error().code == errc::closed;
    done.count_down();
  };
  const auto work = [&]() -> task<> {
    char byte = 0;
    iovec part{large.data(), large.size()};
    start(expect_closed(read_one(*pair.left, byte)));
    start(expect_closed(pair.left->write({&part, 1})));
    timer bell(*owner);
    co_await bell.until(owner->now() + std::chrono::milliseconds(5));  // both are in the kernel, the send buffer is full
    pair.left->close();
    co_await done;
    BOOST_TEST(((co_await read_one(*pair.left, byte)).error().code == errc::closed));
    BOOST_TEST(((co_await write_one(*pair.left, byte)).error().code == errc::closed));
  };
  run_on(*owner, work());
  BOOST_TEST(ended == 2);
}

BOOST_AUTO_TEST_CASE(close_and_destruction_end_an_accept_that_waits) {
  const auto owner = make_loop();
  auto door = listener::open(*owner, loopback(0)).value();
  int ended = 0;
  latch done(1);
  const auto expect_closed = [&]() -> task<> {
    const auto answer = co_await door->accept();
    ended += answer.has_error() && answer.error().code == errc::closed;
    done.count_down();
  };
  const auto work = [&]() -> task<> {
    start(expect_closed());
    co_await owner->submit(io_uring_prep_nop);
    door.reset();
    co_await done;
  };
  run_on(*owner, work());
  BOOST_TEST(ended == 1);
}

BOOST_AUTO_TEST_CASE(no_descriptor_outlives_a_loop_destroyed_with_everything_under_way) {
  const auto before = open_descriptors();
  {
    auto owner = make_loop();
    connection pair(*owner);
    auto door = listener::open(*owner, loopback(0)).value();
    const auto peer = loopback(door->port());
    char byte = 0;
    std::vector<char> large(std::size_t{64} << 20);
    iovec part{large.data(), large.size()};
    std::vector<held> waiting;
    waiting.push_back(hold(read_one(*pair.left, byte)));
    waiting.push_back(hold(pair.left->write({&part, 1})));
    waiting.push_back(hold(connect(*owner, peer)));
    run_on(*owner, one_turn(*owner));
    waiting.push_back(hold(door->accept()));
    waiting.push_back(hold(door->accept()));
    owner.reset();
  }
  BOOST_TEST(open_descriptors() == before);
}

BOOST_AUTO_TEST_CASE(two_loops_on_two_threads_talk) {
  constexpr std::size_t size_bytes = std::size_t{16} << 20;
  const auto here = make_loop();
  const auto there = make_loop();
  const auto door = listener::open(*here, loopback(0)).value();
  const auto peer = loopback(door->port());
  auto sent = random_bytes(size_bytes, 1);
  std::vector<char> received(size_bytes);
  error end;
  const auto send = [&]() -> task<> {
    const auto to = (co_await connect(*there, peer)).value();
    co_await send_all(*to, random_parts(sent, 9000, 2), 3);
  };
  const auto receive = [&]() -> task<> {
    const auto from = (co_await door->accept()).value();
    co_await receive_all(*from, random_parts(received, 4096, 4), 5);
    char byte = 0;
    end = (co_await read_one(*from, byte)).error();
  };
  std::thread other([&] { run_on(*there, send()); });
  run_on(*here, receive());
  other.join();
  BOOST_TEST((end.code == errc::peer_closed));
  BOOST_TEST((sent == received));
}

BOOST_AUTO_TEST_SUITE_END()
