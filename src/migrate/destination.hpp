// SPDX-License-Identifier: Apache-2.0
//
// The destination of a migration: makes room for the source's RAM blocks, writes what it receives, takes the guest over when
// told to.
//
// Invariants
//  1. Nothing is written outside the blocks that `make_room` gave; a frame that would is refused with a reason, and the
//  migration ends.
//  2. The guest is resumed here only after `go`, which comes only when every page is in place.
//
// Threading: the channel's loop, all of it. All parts outlive the task.

#pragma once

#include <tidemark/migration.hpp>
#include <tidemark/threads.hpp>

#include <functional>
#include <vector>

#include "migrate/channel.hpp"
#include "ring/await.hpp"

namespace tidemark::migrate {

class destination {
 public:
  /// Memory for what the source has, in the same order and of the same sizes, or why not. Owned by the embedder.
  using make_room_call = std::function<result<std::vector<ram_block>>(const std::vector<block_description>&)>;

  destination(channel& from, guest& vm, workers& threads, make_room_call make_room);

  /// Completes when the source has gone its way: with the bytes received, or with why there is no guest here (or, after the
  /// switchover, errc::not_identical).
  ring::task<result<std::uint64_t>> run();

 private:
  ring::task<result<void>> take_in();
  ring::task<result<void>> greet();
  ring::task<result<void>> receive_pages();
  ring::task<result<void>> write_pages(const frame& pages);
  ring::task<result<void>> take_over(const frame& final);
  ring::task<result<void>> compare();
  ring::task<void> refuse(const error& why);

  channel& from_;
  guest& vm_;
  workers& threads_;
  make_room_call make_room_;
  any_io_executor executor_;
  std::vector<ram_block> blocks_;
  std::uint64_t received_bytes_ = 0;
  bool running_ = false;
};

}  // namespace tidemark::migrate
