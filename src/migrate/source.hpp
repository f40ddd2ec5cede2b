// SPDX-License-Identifier: Apache-2.0
//
// The source of a migration: rounds of pre-copy, the switchover, the comparison.
//
// Invariants
//  1. Until `go` is being sent, any failure ends with the guest running here, tracking off and every mapping as it was.
//  2. From `go` on the guest never runs here again: if the connection breaks before `running` came, the outcome is
//  errc::undecided and
//     the guest stays paused, for only a person or a fencing device can know whether the destination runs it.
//
// Threading: run() and the progress call on `executor`; the channel on its own loop. All parts outlive the task.

#pragma once

#include <tidemark/dirty_stream.hpp>
#include <tidemark/migration.hpp>
#include <tidemark/threads.hpp>

#include <functional>
#include <optional>

#include "migrate/channel.hpp"
#include "ring/await.hpp"
#include "ring/executor.hpp"

namespace tidemark::migrate {

class source {
 public:
  struct parts {
    any_io_executor executor;
    channel& to;
    const address_space& space;
    dirty_stream& stream;
    guest& vm;
    workers& threads;
  };
  using progress_call = std::function<void(const migration_progress&)>;

  source(parts with, migration_options options, progress_call on_progress);

  ring::task<result<migration_summary>> run();

  /// Gives up, until `go` is being sent: the connection is closed, however long the peer may stand still, and run() fails
  /// with operation_aborted. From `go` on there is nothing to give up, and this does nothing. On `executor`.
  void cancel() noexcept;

 private:
  /// Batches on their way at once: while one is gathered by the kernel the next is ready.
  static constexpr std::size_t batches_in_flight = 4;

  template <class Result>
  auto on_channel(ring::task<Result> work) {
    return ring::run_on(with_.to.loop().get_executor(), std::move(work), here_);
  }

  ring::task<result<void>> migrate();
  ring::task<result<void>> greet();
  ring::task<result<void>> pre_copy();
  ring::task<result<void>> stop_and_copy();
  ring::task<result<void>> hand_over();
  static ring::task<result<frame>> go(channel& to);
  ring::task<result<void>> compare();
  ring::task<result<void>> send_round();
  ring::task<void> send_batches(std::optional<error>& failure);
  ring::task<void> go_on_here(error& failure);
  ring::task<error> give_up(error failure);
  static ring::task<error> leave(channel& to, error failure, bool handed_over);

  result<void> check_cancelled() const;
  bool fits_downtime() const noexcept;
  void note_round(const dirty_round& round, ring::clock::time_point began);
  void report();
  ring::clock::time_point now() const noexcept { return with_.to.loop().now(); }

  parts with_;
  ring::resume_on here_;
  migration_options options_;
  progress_call on_progress_;
  bool under_way_ = false;
  bool cancelled_ = false;
  bool tracking_ = false;
  bool paused_ = false;
  bool handed_over_ = false;
  ring::clock::time_point began_{};
  ring::clock::time_point paused_at_{};
  ring::clock::time_point synced_at_{};
  ring::clock::time_point round_began_{};
  std::uint64_t round_began_bytes_ = 0;
  migration_progress progress_;
  migration_summary summary_;
};

}  // namespace tidemark::migrate
