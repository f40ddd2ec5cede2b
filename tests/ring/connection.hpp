// SPDX-License-Identifier: Apache-2.0
//
// Connections for tests, and bytes to move through them: random ones, in random parts, by random calls.
//
// Threading: one thread, but for send_all and receive_all, which belong to their stream's loop.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "ring/coroutines.hpp"
#include "ring/socket.hpp"

namespace tidemark::tests {

using stream = std::unique_ptr<ring::byte_stream>;

inline std::unique_ptr<ring::uring_loop> make_loop() { return ring::uring_loop::make().value(); }
inline ring::address loopback(std::uint16_t port) { return ring::resolve("127.0.0.1:" + std::to_string(port)).value(); }
inline bool says(const std::string& text, const std::string& words) { return text.find(words) != std::string::npos; }

inline ring::task<> one_turn(ring::uring_loop& on) { co_await on.submit(io_uring_prep_nop); }

/// Two ends of one connection on one loop.
struct connection {
  explicit connection(ring::uring_loop& owner) : connection(owner, loopback(0)) {}
  connection(ring::uring_loop& owner, const ring::address& at) {
    auto door = ring::listener::open(owner, at).value();
    const auto peer = at.is_local() ? at : loopback(door->port());
    const auto call = [&]() -> ring::task<> { left = (co_await ring::connect(owner, peer)).value(); };
    const auto answer = [&]() -> ring::task<> {
      start(call());
      right = (co_await door->accept()).value();
    };
    run_on(owner, answer());
    while (!left) run_on(owner, one_turn(owner));
  }
  stream left, right;
};

/// A directory of its own, for sockets and other files.
class scratch {
 public:
  scratch() {
    auto name = (std::filesystem::temp_directory_path() / "tidemark-ring-XXXXXX").string();
    if (!::mkdtemp(name.data())) throw std::filesystem::filesystem_error("mkdtemp", {});
    where_ = name;
  }
  scratch(const scratch&) = delete;
  ~scratch() { std::filesystem::remove_all(where_); }

  std::string path(const std::string& name) const { return (where_ / name).string(); }

 private:
  std::filesystem::path where_;
};

inline std::vector<char> random_bytes(std::size_t size_bytes, unsigned seed) {
  std::vector<char> bytes(size_bytes);
  std::mt19937_64 random(seed);
  for (std::size_t at = 0; at + 8 <= size_bytes; at += 8) {
    const auto value = random();
    std::memcpy(bytes.data() + at, &value, 8);
  }
  return bytes;
}

/// Cuts `bytes` into parts of at most `part_max` bytes, some empty.
inline std::vector<iovec> random_parts(std::vector<char>& bytes, std::size_t part_max, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<iovec> parts;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t size_bytes = std::min<std::size_t>(random() % (part_max + 1), bytes.size() - at);
    parts.push_back({bytes.data() + at, size_bytes});
    at += size_bytes;
  }
  return parts;
}

/// Moves parts in calls of a random number of parts each.
template <class Transfer>
ring::task<> move_all(std::vector<iovec> parts, unsigned seed, Transfer transfer) {
  std::mt19937 random(seed);
  for (std::span<iovec> rest = parts; !rest.empty();) {
    const auto count = std::min<std::size_t>(1 + random() % 3000, rest.size());
    const auto moved = co_await transfer(rest.first(count));
    moved.value();  // BOOST_TEST is for one thread, this may run on two
    rest = rest.subspan(count);
  }
}

inline ring::task<> send_all(ring::byte_stream& to, std::vector<iovec> parts, unsigned seed) {
  return move_all(std::move(parts), seed, [&to](std::span<iovec> some) { return to.write(some); });
}

inline ring::task<> receive_all(ring::byte_stream& from, std::vector<iovec> parts, unsigned seed) {
  return move_all(std::move(parts), seed, [&from](std::span<iovec> some) { return from.read(some); });
}

/// Fills `into` by read_some, in bites of a random size.
inline ring::task<> receive_in_bites(ring::byte_stream& from, std::vector<char>& into, std::size_t bite_max, unsigned seed) {
  std::mt19937 random(seed);
  for (auto rest = std::as_writable_bytes(std::span(into)); !rest.empty();) {
    const auto bite = std::min<std::size_t>(1 + random() % bite_max, rest.size());
    const auto came = co_await from.read_some(rest.first(bite));
    rest = rest.subspan(came.value());
  }
}

inline ring::task<> then_count_down(ring::task<> work, ring::latch& gate) {
  co_await std::move(work);
  gate.count_down();
}

inline ring::task<result<void>> read_one(ring::byte_stream& from, char& byte) {
  iovec part{&byte, 1};
  co_return co_await from.read({&part, 1});
}

inline ring::task<result<void>> write_one(ring::byte_stream& to, char byte) {
  iovec part{&byte, 1};
  co_return co_await to.write({&part, 1});
}

/// So many MiB each way at once, in gathers that differ on all four sides.
struct both_ways {
  explicit both_ways(std::size_t size_mib = 64) : size_bytes(size_mib << 20) {}

  ring::task<> run(ring::byte_stream& left, ring::byte_stream& right) {
    ring::latch done(4);
    start(then_count_down(send_all(left, random_parts(to_right, 9000, 3), 4), done));
    start(then_count_down(send_all(right, random_parts(to_left, 70000, 5), 6), done));
    start(then_count_down(receive_all(right, random_parts(at_right, 20000, 7), 8), done));
    start(then_count_down(receive_in_bites(left, at_left, 300'000, 9), done));
    co_await done;
  }
  bool arrived() const { return to_right == at_right && to_left == at_left; }

  std::size_t size_bytes;
  std::vector<char> to_right = random_bytes(size_bytes, 1), to_left = random_bytes(size_bytes, 2);
  std::vector<char> at_right = std::vector<char>(size_bytes), at_left = std::vector<char>(size_bytes);
};

inline std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

}  // namespace tidemark::tests
