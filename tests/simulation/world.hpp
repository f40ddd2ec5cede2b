// SPDX-License-Identifier: Apache-2.0
//
// Everything a migration is given through constructors, made from one seed: time that jumps, workers that take their turns
// on the one thread, a network in memory. The same seed gives the same run.
//
// Threading: one thread.

#pragma once

#include <tidemark/threads.hpp>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <utility>

#include "ring/await.hpp"
#include "ring/byte_stream.hpp"
#include "ring/executor.hpp"
#include "support/manual_loop.hpp"

namespace tidemark::simulation {

using namespace std::chrono_literals;

/// Choices, all from one seed.
class chance {
 public:
  explicit chance(std::uint64_t seed) : engine_(seed) {}

  /// 0 to below `limit`.
  std::uint64_t below(std::uint64_t limit) {
    const auto chosen = std::uniform_int_distribution<std::uint64_t>(0, limit - 1)(engine_);
    note(limit);
    note(chosen);
    return chosen;
  }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  std::chrono::nanoseconds within(std::chrono::nanoseconds longest) {
    return std::chrono::nanoseconds(below(static_cast<std::uint64_t>(longest.count()) + 1));
  }

  /// What happened, in its order, as one number: two runs that differ anywhere differ here. Every choice is in it; others
  /// add what they see.
  void note(std::uint64_t happened) noexcept { trace_ = (trace_ ^ happened) * 0x100000001b3 + (trace_ >> 29); }
  std::uint64_t trace() const noexcept { return trace_; }

 private:
  std::mt19937_64 engine_;
  std::uint64_t trace_ = 0xcbf29ce484222325;
};

/// Workers whose job runs on the loop, some virtual time after they were woken.
class turn_workers final : public workers {
 public:
  turn_workers(ring::loop& loop, chance& luck) : loop_(loop), luck_(luck) {}
  std::unique_ptr<worker> make(const std::string& name, std::function<void()> job) override;

 private:
  ring::loop& loop_;
  chance& luck_;
};

/// Two ends of a connection in memory: each direction holds a bounded number of bytes, moves them in pieces of random size
/// after random delays, and can be cut after a given number of bytes.
struct connection {
  static constexpr std::uint64_t never = ~std::uint64_t{0};
  std::unique_ptr<ring::byte_stream> source;
  std::unique_ptr<ring::byte_stream> destination;
  std::function<void()> cut;  ///< at once, both ways
};
connection connect(ring::loop& loop, chance& luck, std::uint64_t cut_forth_after_bytes, std::uint64_t cut_back_after_bytes);

}  // namespace tidemark::simulation
