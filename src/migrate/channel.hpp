// SPDX-License-Identifier: Apache-2.0
//
// Frames over one byte stream, at a bounded bandwidth.
//
// Threading: the stream's loop, all of it; set_bandwidth() and wire_bytes() from any thread. Senders take turns in the order
// they came; one receiver.
// Memory: a payload stays mapped until the task completes.

#pragma once

#include <sys/uio.h>
#include <tidemark/error.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "migrate/bandwidth_limit.hpp"
#include "migrate/wire.hpp"
#include "ring/byte_stream.hpp"
#include "ring/descriptor_stream.hpp"
#include "ring/loop.hpp"
#include "ring/mutex.hpp"

namespace tidemark::migrate {

class channel {
 public:
  channel(ring::loop& loop, std::unique_ptr<ring::byte_stream> stream);

  ring::loop& loop() noexcept { return loop_; }

  /// 0: unlimited. From the next frame on.
  void set_bandwidth(std::uint64_t bytes_per_s) noexcept { limit_.set(bytes_per_s); }
  /// Sent so far.
  std::uint64_t wire_bytes() const noexcept { return wire_bytes_; }

  /// Completes when the kernel has taken it: with the frame's sequence number.
  ring::task<result<std::uint64_t>> send(frame_type type, std::string body = {}, std::vector<iovec> payload = {});

  /// The next frame, checked; a payload is then still in the stream, for receive_payload.
  ring::task<result<frame>> receive();
  ring::task<result<void>> receive_payload(std::vector<iovec> parts);

  /// File descriptors behind the frames sent so far, or received so far: over a UNIX socket only.
  ring::task<result<void>> send_descriptors(std::vector<int> those);
  ring::task<result<std::vector<ring::descriptor>>> receive_descriptors(std::size_t count);

  /// The next frame, which must be of this type: a refusal becomes an error with the peer's reason.
  ring::task<result<frame>> expect(frame_type type);

  /// While the last words are on their way this does nothing: they close it.
  void close() noexcept {
    if (!refuses_) stream_->close();
  }

  /// The last words. Until the peer has left, for a second at most, what it still sends is thrown away: closed before, TCP
  /// would answer that with a reset, and throw away the words. Then closes. The first words are the last.
  ring::task<void> refuse(const error& why);

 private:
  ring::task<bool> say_last(const error& why);

  ring::loop& loop_;
  std::unique_ptr<ring::byte_stream> stream_;
  std::atomic<std::uint64_t> wire_bytes_ = 0;
  ring::mutex sending_;
  ring::mutex receiving_;
  bool refuses_ = false;
  bool refused_ = false;  ///< the last words were said
  bandwidth_limit limit_;
  std::uint64_t sent_frames_ = 0;
  std::uint64_t received_frames_ = 0;
};

/// The error that a `refusal` frame carries.
error refusal_in(const frame& received);
std::string encode_refusal(const error& why);

/// Whether it is the connection that failed, and not one of its ends: it may be made anew.
bool is_broken_connection(const error& failure) noexcept;

}  // namespace tidemark::migrate
