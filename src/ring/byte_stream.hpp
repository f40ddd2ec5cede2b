// SPDX-License-Identifier: Apache-2.0
//
// A connected, ordered, reliable stream of bytes: a TCP or UNIX connection on a ring, TLS over another stream, or a
// simulation's pair of queues.
//
// Threading: belongs to the loop it was made on. At most one write and one read at a time.
// Memory: the bytes named by `parts` stay as they are, and the parts themselves too, until the call's task completes: the
// kernel reads and writes them meanwhile. Destroying the stream while a task of its is under way is as closing it: the task
// completes. Cancellation: close() from the loop's thread; what is under way completes with an error.

#pragma once

#include <sys/uio.h>
#include <tidemark/error.hpp>

#include <cstddef>
#include <span>

#include "ring/task.hpp"

namespace tidemark::ring {

class byte_stream {
 public:
  virtual ~byte_stream() = default;

  /// Sends every byte of `parts` in their order. `parts` is consumed: its entries are advanced as bytes leave.
  virtual task<result<void>> write(std::span<iovec> parts) = 0;

  /// Fills every byte of `parts` in their order; `parts` is consumed. A peer that closed before the first byte is
  /// errc::peer_closed, as is one that closes between.
  virtual task<result<void>> read(std::span<iovec> parts) = 0;

  /// Waits for a byte and takes what is there, up to `into`'s size: how many bytes came, 0 only if `into` is empty. A peer
  /// that closed is errc::peer_closed. Counts as a read.
  virtual task<result<std::size_t>> read_some(std::span<std::byte> into) = 0;

  /// Nothing more is written: the peer reads what was, then errc::peer_closed. Reading goes on. Not while a write is under
  /// way.
  virtual void end_writing() noexcept = 0;

  /// Ends the connection both ways, at once: what was written may not arrive if the peer still writes. Operations under way,
  /// and later ones, fail with errc::closed.
  virtual void close() noexcept = 0;
};

/// Takes `count` bytes, and parts that are empty, off the front: what is left.
inline std::span<iovec> consume(std::span<iovec> parts, std::size_t count) noexcept {
  while (!parts.empty() && count >= parts.front().iov_len) {
    count -= parts.front().iov_len;
    parts.front().iov_base = static_cast<char*>(parts.front().iov_base) + parts.front().iov_len;
    parts.front().iov_len = 0;
    parts = parts.subspan(1);
  }
  if (count > 0) {
    parts.front().iov_base = static_cast<char*>(parts.front().iov_base) + count;
    parts.front().iov_len -= count;
  }
  return parts;
}

}  // namespace tidemark::ring
