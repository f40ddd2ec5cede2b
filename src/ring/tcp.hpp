// SPDX-License-Identifier: Apache-2.0
//
// TCP connections on a uring_loop: connect, listen, and the byte_stream over both.
//
// Threading: the loop's thread, but for resolve(), which may block for seconds on a name server and is called before the
// loop runs or on another thread.
//
// Invariants
//  1. A socket is closed when its stream (or listener) has let go of it and no operation on it is under way: operations
//     share its ownership.
//  2. close() shuts the socket down first, so whatever is under way completes in a turn or two.
//  3. At most 1024 parts enter the kernel in one call (IOV_MAX); short counts are continued; SIGPIPE is never raised.

#pragma once

#include <sys/socket.h>
#include <tidemark/error.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ring/byte_stream.hpp"
#include "ring/task.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::ring {

/// Where a peer listens, or we do. A name can stand for several places; they are tried in order.
struct address {
  struct place {
    sockaddr_storage socket{};
    socklen_t size_bytes = 0;
  };

  std::string text;           ///< as it was given, for messages
  std::vector<place> places;  ///< at least one
};

/// Reads "HOST:PORT" or "[IPV6]:PORT". BLOCKS on the name server when HOST is a name; a number never blocks.
result<address> resolve(std::string_view host_and_port);

/// Connects to the first place of `peer` that answers. `peer` outlives the task. The kernel gives up on a silent peer after
/// about two minutes.
task<result<std::unique_ptr<byte_stream>>> connect(uring_loop& owner, const address& peer);

namespace detail {
class socket;
}

/// Accepts connections. One accept() at a time.
class listener {
 public:
  /// Listens at the first place of `at`; port 0 takes a free one.
  static result<std::unique_ptr<listener>> open(uring_loop& owner, const address& at);

  listener(const listener&) = delete;
  ~listener();

  std::uint16_t port() const noexcept { return port_; }

  /// The next connection. errc::closed after close().
  task<result<std::unique_ptr<byte_stream>>> accept();
  /// The same, for use on another loop, which is its owner then.
  task<result<std::unique_ptr<byte_stream>>> accept_for(uring_loop& user);

  /// Refuses further peers; an accept() under way completes with errc::closed.
  void close() noexcept;

 private:
  listener(uring_loop& owner, std::shared_ptr<detail::socket> socket, std::uint16_t port) noexcept;

  uring_loop& owner_;
  std::shared_ptr<detail::socket> socket_;
  std::uint16_t port_;
};

}  // namespace tidemark::ring
