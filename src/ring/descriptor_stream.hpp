// SPDX-License-Identifier: Apache-2.0
//
// A byte_stream that passes file descriptors, too: a UNIX connection.
//
// A message of descriptors stands in the stream like a byte: what was written before it comes before it. So both sides have
// to know where it stands: read() and read_some() that run over it drop the descriptors (the kernel closes them).
//
// Threading, memory, cancellation: as byte_stream. send_descriptors is a write, receive_descriptors a read.

#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "ring/byte_stream.hpp"
#include "ring/descriptor.hpp"

namespace tidemark::ring {

class descriptor_stream : public byte_stream {
 public:
  static constexpr std::size_t descriptors_max = 64;  ///< in one message

  /// Sends these descriptors, 1 to 64, as one message. They stay the caller's, and open until the task completes.
  virtual task<result<void>> send_descriptors(std::span<const int> those) = 0;

  /// The next message, which must be of exactly `count` descriptors, closed at exec. When it is not, the error says so
  /// (errc::protocol) and all that came are closed.
  virtual task<result<std::vector<descriptor>>> receive_descriptors(std::size_t count) = 0;
};

/// The same connection with its descriptors. An error where it passes none: over TCP or TLS.
result<std::unique_ptr<descriptor_stream>> with_descriptors(std::unique_ptr<byte_stream> stream);

}  // namespace tidemark::ring
