// SPDX-License-Identifier: Apache-2.0
//
// Connections for a migration, in memory: a network that connects to a listener, a number of channels, and breaks as it was
// told to.
//
// Threading: one thread, one loop. Both outlive who uses them.

#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "migrate/network.hpp"
#include "ring/condition.hpp"
#include "simulation/world.hpp"

namespace tidemark::simulation {

/// Where a destination listens.
class simulated_arrivals final : public migrate::arrivals {
 public:
  explicit simulated_arrivals(ring::loop& loop) : loop_(loop) {}

  /// Somebody connects; once it is closed, he is turned away: false.
  bool offer(std::unique_ptr<ring::byte_stream> stream);
  bool closed() const noexcept { return closed_; }

  ring::task<result<migrate::arrival>> next() override;
  void close() noexcept override;

 private:
  ring::loop& loop_;
  std::deque<std::unique_ptr<ring::byte_stream>> came_;
  bool closed_ = false;
  ring::condition changed_;
};

/// What a source connects through.
class simulated_network final : public migrate::network {
 public:
  /// After so many bytes each way a connection breaks.
  struct cut {
    std::uint64_t forth = connection::never;
    std::uint64_t back = connection::never;
  };
  using stream = std::unique_ptr<ring::byte_stream>;
  using wrapper = std::function<stream(stream below, std::size_t connection)>;

  /// Connections are counted from 0, whatever their channel.
  struct shape {
    unsigned channels = 1;
    std::vector<cut> cuts;  ///< of the connections in their order; those that come later are whole
    wrapper at_source;      ///< what is put in front of a connection's ends; empty: nothing
    wrapper at_destination;
    std::function<bool(std::size_t connection)> reaches;  ///< false: nobody answers; empty: always true
  };

  simulated_network(ring::loop& loop, chance& luck, simulated_arrivals& to, shape how)
      : loop_(loop), luck_(luck), to_(&to), how_(std::move(how)) {}

  /// From now on another listens there.
  void lead_to(simulated_arrivals& other) noexcept { to_ = &other; }
  std::size_t connections() const noexcept { return cuts_.size(); }
  /// A connection breaks now.
  void break_now(std::size_t connection) { cuts_[connection](); }

  unsigned channels() const noexcept override { return how_.channels; }
  ring::loop& loop(unsigned) noexcept override { return loop_; }
  ring::task<result<stream>> connect(unsigned channel) override;

 private:
  ring::loop& loop_;
  chance& luck_;
  simulated_arrivals* to_;
  const shape how_;
  std::vector<std::function<void()>> cuts_;  ///< of each connection
};

}  // namespace tidemark::simulation
