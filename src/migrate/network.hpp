// SPDX-License-Identifier: Apache-2.0
//
// Connections for a migration, made from outside: sockets on rings with threads of their own, or a simulation's queues.

#pragma once

#include <tidemark/error.hpp>

#include <memory>

#include "ring/byte_stream.hpp"
#include "ring/loop.hpp"
#include "ring/task.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::migrate {

/// The source's side. It outlives what it connected.
class network {
 public:
  virtual ~network() = default;
  virtual unsigned channels() const noexcept = 0;
  /// The loop of a channel, which its connections are used on.
  virtual ring::loop& loop(unsigned channel) noexcept = 0;
  /// The same, where it is one of io_uring.
  virtual ring::uring_loop* uring(unsigned /*channel*/) noexcept { return nullptr; }
  /// A connection to the destination. On the channel's loop.
  virtual ring::task<result<std::unique_ptr<ring::byte_stream>>> connect(unsigned channel) = 0;
  /// A connect() that is under way fails, where that can be had. On the channel's loop.
  virtual void cut(unsigned /*channel*/) noexcept {}
};

/// A source's connection, on the loop that it is used on, which lives as long as `keeps`.
struct arrival {
  std::shared_ptr<void> keeps;
  ring::loop* loop = nullptr;
  ring::uring_loop* uring = nullptr;  ///< the same, where it is one of io_uring
  std::unique_ptr<ring::byte_stream> stream;
};

/// The destination's side.
class arrivals {
 public:
  virtual ~arrivals() = default;
  /// The next connection; errc::closed after close(). Awaited on the destination's executor.
  virtual ring::task<result<arrival>> next() = 0;
  /// No more connections; a next() under way completes. On the destination's executor.
  virtual void close() noexcept = 0;
};

}  // namespace tidemark::migrate
