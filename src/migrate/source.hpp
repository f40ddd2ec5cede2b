// SPDX-License-Identifier: Apache-2.0
//
// The source of a migration: rounds of pre-copy, the switchover, the comparison.
//
// Invariants
//  1. Until the target's hand_over() begins, any failure ends with the guest running here, tracking off and every mapping as
//     it was.
//  2. From then on the guest never runs here again: if the connection breaks, and cannot be made anew to ask, the outcome is
//     errc::undecided and the guest stays paused, for only a person or a fencing device can know whether the destination
//     runs it.
//  3. A page is acknowledged to the dirty stream when the target has it, so a connection that breaks loses none: what was
//     under way is dirty again.
//
// Threading: everything on `executor`. All parts outlive the task.

#pragma once

#include <tidemark/dirty_stream.hpp>
#include <tidemark/migration.hpp>
#include <tidemark/threads.hpp>

#include <functional>
#include <optional>

#include "migrate/pace.hpp"
#include "migrate/target.hpp"
#include "ring/await.hpp"
#include "ring/condition.hpp"
#include "ring/executor.hpp"

namespace tidemark::migrate {

class source {
 public:
  struct parts {
    any_io_executor executor;
    ring::loop& clock;  ///< any loop that runs: for the time, and for waiting
    target& to;
    const address_space& space;
    dirty_stream& stream;
    guest& vm;
    workers& threads;
    device_states* devices = nullptr;  ///< none: the guest has none
  };
  using progress_call = std::function<void(const migration_progress&)>;

  source(parts with, migration_options options, progress_call on_progress);

  ring::task<result<migration_summary>> run();

  /// Gives up, until the hand-over begins, and tells the target so: however long the peer may stand still, run() fails with
  /// operation_aborted. From then on there is nothing to give up, and this does nothing.
  void cancel() noexcept;
  /// No more pages are sent until release(); what is on its way arrives. In the blackout there is nothing to hold.
  void hold() noexcept { held_ = true; }
  void release();
  void set_bandwidth(std::uint64_t bytes_per_s) noexcept { with_.to.set_bandwidth(bytes_per_s); }

 private:
  /// Batches on their way at once: while the last is on its way, and its answer, the next is sent.
  static constexpr std::size_t batches_in_flight = 4;

  ring::task<result<void>> migrate();
  ring::task<result<void>> open();
  ring::task<result<void>> send_all();
  ring::task<result<void>> pre_copy();
  ring::task<result<void>> begin_round(dirty_round& round);
  ring::task<result<void>> stop_and_copy();
  ring::task<result<void>> send_rest();
  ring::task<result<void>> hand_over();
  ring::task<result<void>> run_there();
  ring::task<result<void>> compare();
  ring::task<result<void>> send_round();
  ring::task<void> send_device(unsigned device, std::optional<error>& failure);
  ring::task<result<void>> ask_devices();
  ring::task<result<void>> start_devices();
  ring::task<void> send_batches(std::optional<error>& failure);
  ring::task<result<void>> wait_released();
  ring::task<void> wait_held(std::optional<error>& failure);
  void fail(std::optional<error>& failure, error why);
  ring::task<result<void>> touch();
  ring::task<void> throttle(unsigned percent);
  ring::task<result<void>> recover(error broken);
  ring::task<result<welcome>> open_again(ring::clock::time_point until);
  ring::task<result<void>> guest_goes_on();
  ring::task<error> give_up(error failure);

  result<void> check_cancelled() const;
  void note_sent(std::uint64_t pages, const delivery& how);
  void report(migration_phase phase);
  void report() { report(progress_.phase); }
  ring::clock::time_point now() const noexcept { return with_.clock.now(); }

  parts with_;
  ring::resume_on here_;
  migration_options options_;
  progress_call on_progress_;
  pace pace_;
  bool under_way_ = false;
  bool begun_ = false;  ///< the destination knows of it
  bool cancelled_ = false;
  bool held_ = false;
  bool probing_ = false;
  bool tracking_ = false;
  bool paused_ = false;
  bool devices_save_ = false;
  std::uint64_t device_bytes_left_ = 0;  ///< by the drivers' estimates
  bool handed_over_ = false;
  bool running_there_ = false;
  ring::condition released_;
  ring::clock::time_point began_{};
  ring::clock::time_point paused_at_{};
  migration_progress progress_;
  migration_summary summary_;
};

}  // namespace tidemark::migrate
