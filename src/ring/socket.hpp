// SPDX-License-Identifier: Apache-2.0
//
// Connections on a uring_loop, over TCP and UNIX sockets: connect and listen.
// A TCP peer that takes nothing of what was sent for ten seconds, or does not answer the kernel's probes as long, is gone:
// what waits for it completes with ETIMEDOUT.
//
// Threading: the loop's thread, but for listener::open, which may be called before the loop runs on another.

#pragma once

#include <tidemark/error.hpp>

#include <cstdint>
#include <memory>
#include <string>

#include "ring/address.hpp"
#include "ring/byte_stream.hpp"
#include "ring/task.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::ring {

namespace detail {
class socket;
}
class socket_file;

/// Makes connections, one at a time.
class connector {
 public:
  explicit connector(uring_loop& owner) noexcept : owner_(owner) {}

  /// Connects to the first place of `peer` that answers; over TCP each is given ten seconds. `peer` outlives the task.
  /// A UNIX socket's stream is a descriptor_stream. `congestion_control` is for what is sent over TCP: as migration_peer.hpp
  /// has it.
  task<result<std::unique_ptr<byte_stream>>> connect(const address& peer, std::string congestion_control = "auto");

  /// A connect() under way completes with errc::closed; over UNIX sockets only when the peer has room for it.
  void close() noexcept;

 private:
  task<result<std::shared_ptr<detail::socket>>> try_place(const address& peer, const address::place& place,
                                                          const std::string& congestion_control);

  uring_loop& owner_;
  std::shared_ptr<detail::socket> trying_;
};

/// The same, where nobody gives up.
task<result<std::unique_ptr<byte_stream>>> connect(uring_loop& owner, const address& peer,
                                                   std::string congestion_control = "auto");

/// Accepts connections. One accept() at a time.
class listener {
 public:
  /// Listens at the first place of `at`; port 0 takes a free one. A UNIX socket's file is made with mode 0600, in place of
  /// one that nobody listens at any more; close() removes it.
  static result<std::unique_ptr<listener>> open(uring_loop& owner, const address& at);

  listener(const listener&) = delete;
  ~listener();

  /// 0 for a UNIX socket.
  std::uint16_t port() const noexcept { return port_; }

  /// The next connection. errc::closed after close().
  task<result<std::unique_ptr<byte_stream>>> accept();
  /// The same, for use on another loop, which is its owner then.
  task<result<std::unique_ptr<byte_stream>>> accept_for(uring_loop& user);

  /// Refuses further peers; an accept() under way completes with errc::closed.
  void close() noexcept;

 private:
  listener(uring_loop& owner, std::shared_ptr<detail::socket> socket, std::unique_ptr<socket_file> file,
           int family) noexcept;

  uring_loop& owner_;
  std::shared_ptr<detail::socket> socket_;
  std::unique_ptr<socket_file> file_;  ///< a UNIX socket's
  int family_;
  std::uint16_t port_;
};

}  // namespace tidemark::ring
