// SPDX-License-Identifier: Apache-2.0
//
// One connection of a destination: what came first on it, then pages and devices' state, until the source says that this is
// all. Threading: the connection's loop.

#pragma once

#include <tidemark/address_space.hpp>
#include <tidemark/error.hpp>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "migrate/channel.hpp"
#include "migrate/device_states.hpp"
#include "migrate/network.hpp"
#include "migrate/page_unpacker.hpp"

namespace tidemark::migrate {

/// Where what arrives is put.
struct arrival_room {
  page_key key{};
  std::vector<ram_block> blocks;
  device_states* devices = nullptr;  ///< resuming
  workers* threads = nullptr;

  std::size_t device_count() const noexcept { return devices ? devices->size() : 0; }
};

class incoming {
 public:
  explicit incoming(arrival from)
      : keeps_(std::move(from.keeps)), loop_(*from.loop), uring_(from.uring), channel_(*from.loop, std::move(from.stream)) {}

  ring::loop& loop() noexcept { return loop_; }
  channel& wire() noexcept { return channel_; }

  /// The next frame, or timed_out when none came by then.
  ring::task<result<frame>> receive_by(ring::clock::time_point when);

  /// Takes in what comes for `room`, which outlives it, until `final`.
  ring::task<result<void>> take_in(const arrival_room& room);

  ring::task<result<void>> say(frame_type type, std::string body = {});
  /// The same where something is read next: a source that has left meanwhile is no failure yet, for it may have said why.
  ring::task<result<void>> say_and_listen(frame_type type, std::string body = {});

  /// Bytes of pages that are in place. Any thread.
  std::uint64_t received_bytes() const noexcept { return received_bytes_; }

 private:
  ring::task<result<void>> take_pages(const frame& came, page_unpacker& into);
  ring::task<result<void>> take_device(const frame& came, const arrival_room& room);
  ring::task<result<void>> confirm(const frame& came, bool asked);

  std::shared_ptr<void> keeps_;
  ring::loop& loop_;
  ring::uring_loop* uring_;
  channel channel_;
  std::vector<std::byte> device_bytes_;
  std::map<unsigned, state_file> device_files_;  ///< of the devices whose state comes on this connection
  std::atomic<std::uint64_t> received_bytes_ = 0;
};

}  // namespace tidemark::migrate
