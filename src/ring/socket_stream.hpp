// SPDX-License-Identifier: Apache-2.0
//
// The byte_streams over connected sockets: TCP's, and UNIX's, which passes descriptors.
//
// Threading: the loop's thread.
//
// Invariants
//  1. A socket is closed when its stream (or listener) has let go of it and no operation on it is under way: operations
//     share its ownership.
//  2. close() shuts the socket down first, so whatever is under way completes in a turn or two.
//  3. At most 1024 parts enter the kernel in one call (IOV_MAX); short counts are continued; SIGPIPE is never raised.
//  4. Descriptors that come in are owned from the call on that brings them: no answer of the ring has any.

#pragma once

#include <sys/socket.h>

#include <memory>
#include <optional>
#include <utility>

#include "ring/byte_stream.hpp"
#include "ring/descriptor.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::ring::detail {

/// A socket's descriptor, shared by its stream and the operations under way on it.
class socket {
 public:
  explicit socket(descriptor fd) noexcept : fd_(std::move(fd)) {}
  socket(const socket&) = delete;

  int fd() const noexcept { return fd_.get(); }
  bool closed() const noexcept { return closed_; }

  /// What ended the connection: the kernel tells it to one of those who wait, and to the others only that it has ended.
  int first_failure(int answer) noexcept { return failure_ ? *failure_ : failure_.emplace(answer); }

  void end_writing() noexcept { ::shutdown(fd(), SHUT_WR); }
  /// Wakes whoever waits on the socket; the descriptor stays theirs until they have gone.
  void close() noexcept {
    closed_ = true;
    ::shutdown(fd(), SHUT_RDWR);
  }

 private:
  descriptor fd_;
  bool closed_ = false;
  std::optional<int> failure_;
};

using shared_socket = std::shared_ptr<socket>;

error closed_here(operation what);

/// The stream over a connected socket of this family.
std::unique_ptr<byte_stream> make_stream(uring_loop& owner, shared_socket connected, int family);

}  // namespace tidemark::ring::detail
