// SPDX-License-Identifier: Apache-2.0
//
// One channel of a source: packs pages and sends them, and knows what the destination has taken.
//
// Invariants
//  1. A send completes without error only when the destination said that it has taken all of it.
//  2. The first failure, of sending or of receiving, ends all that is under way, and the channel: with the reason that the
//     destination gave, if it gave one.
//
// Threading: the channel's loop. Lives until its task run() has completed, which it does when the channel is closed or
// fails.

#pragma once

#include <tidemark/migration.hpp>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "migrate/channel.hpp"
#include "migrate/packing_choice.hpp"
#include "migrate/page_packer.hpp"
#include "migrate/target.hpp"
#include "ring/condition.hpp"

namespace tidemark::migrate {

class outgoing {
 public:
  outgoing(ring::loop& loop, std::unique_ptr<ring::byte_stream> stream, const page_key& key, compression pages);

  channel& wire() noexcept { return channel_; }

  /// Receives what the destination says, until the channel ends.
  ring::task<void> run();
  /// What is under way fails, and the destination is told why.
  ring::task<void> refuse(error why);

  void begin_round() noexcept { packer_.begin_round(); }
  ring::task<result<delivery>> send_pages(std::vector<page_run> runs, const std::vector<ram_block>& blocks);
  /// Until there is no more for now.
  ring::task<result<std::uint64_t>> send_device(unsigned device, state_file from);
  /// A frame of no pages, there and back.
  ring::task<result<void>> touch();
  ring::task<result<void>> say(frame_type type, std::string body = {});
  /// The next frame that is no `taken`.
  ring::task<result<frame>> expect(frame_type type);

 private:
  ring::task<result<std::uint64_t>> send_frame(page_packer::packed_frame&& made, bool last);
  ring::task<result<void>> until_taken(result<std::uint64_t> sent);
  ring::task<error> why(error seen);
  void end(error why);

  channel channel_;
  page_packer packer_;
  packing_choice choice_;
  packer tool_;
  std::vector<std::byte> packed_;
  ring::mutex packing_;

  std::optional<error> ended_;
  std::uint64_t taken_frames_ = 0;
  std::deque<frame> said_;
  ring::condition changed_;
};

}  // namespace tidemark::migrate
