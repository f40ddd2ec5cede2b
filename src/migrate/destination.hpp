// SPDX-License-Identifier: Apache-2.0
//
// The destination of a migration: makes room for the source's RAM blocks, writes what it receives, takes the guest over when
// told to.
//
// Invariants
//  1. Nothing is written outside the blocks that `make_room` gave; a frame that would is refused with a reason, and the
//     migration ends.
//  2. The guest is resumed here only after `go`, which comes only when everything is in place; and once.
//  3. A connection that breaks is waited for, as long as the source said it tries: what had arrived stays.
//  4. Who connects and says nothing that can be understood, or belongs to another migration, is refused, and disturbs
//  nothing.
//
// Threading: `executor`; each connection on its own loop, which writes RAM blocks. All parts outlive the task.

#pragma once

#include <tidemark/migration.hpp>
#include <tidemark/threads.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "migrate/incoming.hpp"
#include "migrate/network.hpp"
#include "ring/await.hpp"
#include "ring/condition.hpp"
#include "ring/executor.hpp"

namespace tidemark::migrate {

class destination {
 public:
  /// Memory for what the source has, in the same order and of the same sizes, or why not. Owned by the embedder.
  using make_room_call = std::function<result<std::vector<ram_block>>(const std::vector<block_description>&)>;

  struct parts {
    any_io_executor executor;
    ring::loop& clock;  ///< any loop that runs: for the time, and for waiting
    arrivals& from;
    guest& vm;
    workers& threads;
    make_room_call make_room;
    std::function<void(const error&)> stranger = [](const error&) {};  ///< who was refused, and why
    device_states* devices = nullptr;                                  ///< none: the guest has none
  };
  explicit destination(parts with);

  /// Completes when the guest runs here and the source has gone its way, with the bytes received; or with why there is no
  /// guest here (or, after the switchover, errc::not_identical).
  ring::task<result<std::uint64_t>> run();

  /// Gives up, until the guest runs here.
  void cancel();

 private:
  using connection = std::shared_ptr<incoming>;

  template <class T>
  auto on(const connection& one, ring::task<T> work) {
    return ring::run_on(one->loop().get_executor(), std::move(work), ring::resume_on{with_.executor});
  }

  ring::task<void> accept_all();
  ring::task<void> serve(connection from);
  ring::task<void> greet(connection from, const frame& first);
  ring::task<void> serve_control(connection from, std::uint64_t attempt, bool resumed);
  ring::task<void> serve_data(connection from, const frame& first);
  ring::task<result<void>> begin(const connection& from, const hello& said, bool& resumed);
  ring::task<result<void>> make_room(const connection& from, const hello& said);
  ring::task<result<void>> take_in(const connection& from);
  ring::task<result<void>> start_devices(bool again, bool handed_over);
  ring::task<result<void>> change_devices(ring::task<result<void>> change);
  ring::task<result<void>> run_guest();
  ring::task<result<void>> all_joined(std::uint64_t attempt);
  ring::task<result<void>> finish(const connection& control, std::uint64_t attempt);
  ring::task<result<void>> compare(const connection& control);
  ring::task<void> refuse_stranger(const connection& from, error why);
  ring::task<void> lost(std::uint64_t attempt, error why);
  ring::task<void> wait_for_source(std::uint64_t attempt, error why);
  void end(result<std::uint64_t> outcome);
  std::optional<error> last_words() const;
  void drop_connections(const std::optional<error>& why);
  ring::task<void> drop(connection one, std::optional<error> why);
  std::string differing(const std::vector<std::string>& theirs, const std::vector<std::string>& ours) const;

  parts with_;
  std::optional<hello> session_;
  std::shared_ptr<arrival_room> room_;
  std::vector<connection> connected_;  ///< of this attempt, and those that nobody knows yet
  std::vector<bool> joined_;           ///< channels of this attempt
  std::uint64_t attempt_ = 0;
  std::uint64_t waited_for_ = 0;  ///< attempt whose connections broke
  unsigned finals_ = 0;           ///< channels of this attempt on which all has come
  std::size_t serving_ = 0;
  std::size_t taking_in_ = 0;
  std::uint64_t received_bytes_ = 0;
  bool running_ = false;
  bool devices_load_ = false;
  bool devices_change_ = false;   ///< they are being told to change their states
  bool in_place_ = false;         ///< all of it, the devices' states taken over: `ready` was, or could be, said
  bool resuming_ = false;         ///< and not yet known to
  std::optional<error> differs_;  ///< what was compared
  std::optional<result<std::uint64_t>> outcome_;
  ring::condition changed_;
};

}  // namespace tidemark::migrate
