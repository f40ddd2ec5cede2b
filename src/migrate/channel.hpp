// SPDX-License-Identifier: Apache-2.0
//
// Frames over one byte stream, at a bounded bandwidth. Pages leave straight from guest memory, in one gather a frame, and
// are never copied.
//
// Threading: the stream's loop, all of it. Senders take turns in the order they came; one receiver.
// Memory: the RAM blocks stay mapped until the tasks complete.

#pragma once

#include <tidemark/migration.hpp>

#include <chrono>
#include <memory>

#include "migrate/wire.hpp"
#include "ring/byte_stream.hpp"
#include "ring/loop.hpp"
#include "ring/mutex.hpp"

namespace tidemark::migrate {

class channel {
 public:
  /// `bandwidth_bytes_per_s` 0: unlimited.
  channel(ring::loop& loop, std::unique_ptr<ring::byte_stream> stream, std::uint64_t bandwidth_bytes_per_s);

  ring::loop& loop() noexcept { return loop_; }

  ring::task<result<void>> send(frame_type type, std::string body = {});
  /// In as many frames as it takes.
  ring::task<result<void>> send_pages(std::vector<page_run> runs, const std::vector<ram_block>& blocks);

  /// The next frame, checked; a payload is then still in the stream, for receive_payload.
  ring::task<result<frame>> receive();
  ring::task<result<void>> receive_payload(std::vector<iovec> parts);
  /// The next frame, which must be of this type: a refusal becomes an error with the peer's reason.
  ring::task<result<frame>> expect(frame_type type);
  /// After `seen`: a peer that refuses says why and leaves, so whoever is sending sees a broken connection first. Its
  /// reason, if one came; else `seen`.
  ring::task<error> why_failed(error seen);

  void close() noexcept { stream_->close(); }

 private:
  ring::task<void> await_turn(std::uint64_t bytes);
  ring::task<result<void>> send_frame(frame_type type, std::string body, std::vector<iovec> payload);

  ring::loop& loop_;
  std::unique_ptr<ring::byte_stream> stream_;
  std::uint64_t bandwidth_bytes_per_s_;
  ring::mutex sending_;
  ring::timer pace_;
  ring::clock::time_point free_at_{};
  std::uint64_t sent_frames_ = 0;
  std::uint64_t received_frames_ = 0;
};

/// The parts of guest memory that `runs` name, in their order.
std::vector<iovec> parts_of(std::span<const page_run> runs, const std::vector<ram_block>& blocks);

}  // namespace tidemark::migrate
