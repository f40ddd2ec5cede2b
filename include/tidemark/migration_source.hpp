// SPDX-License-Identifier: Apache-2.0
//
// Sends a guest away: rounds of pre-copy while it runs, a predicted blackout, the switchover.
//
//   migration_source leaving({executor, space, stream, vmm}, {"tcp:192.0.2.7:7000", 2, false, identity}, options);
//   auto done = co_await leaving.async_run(use_awaitable);   // result<migration_summary>
//   if (!done) log(done.error().message());                  // why, and where the guest is now
//
// Invariants
//  1. Until the destination is told to run the guest, any failure ends with the guest running here, tracking off and every
//     mapping as it was. From then on it never runs here again; if nobody can say whether it runs there, the outcome is
//     errc::undecided.
//  2. A connection that breaks is made anew within migration_options::recovery_window; what had arrived is not sent again.
//
// Threading: everything on `executor`. Each channel has a thread and a ring of its own, made by async_run and ended when it
// completes.
// Cancellation: cancel(), and the handler's cancellation slot, which does the same.

#pragma once

#include <tidemark/device.hpp>
#include <tidemark/dirty_stream.hpp>
#include <tidemark/migration.hpp>
#include <tidemark/migration_peer.hpp>
#include <tidemark/operation.hpp>
#include <tidemark/threads.hpp>

#include <functional>
#include <memory>
#include <vector>

namespace tidemark {

class migration_source {
 public:
  /// They outlive the operation. The stream is not tracking, and nobody else uses it.
  struct parts {
    any_io_executor executor;
    address_space& space;
    dirty_stream& stream;
    guest& vm;
    workers& threads = thread_workers();
    /// Attached devices, whose state goes along. They stop after the guest's CPUs, and run before those where they arrive.
    std::vector<device> devices{};
  };
  /// Called on the executor, several times a round.
  using progress_call = std::function<void(const migration_progress&)>;

  migration_source(parts with, migration_peer to, migration_options options = {}, progress_call on_progress = {});
  migration_source(const migration_source&) = delete;
  /// Not while async_run is under way.
  ~migration_source();

  /// Once. An address or an identity that makes no sense fails before anything has begun.
  template <BOOST_ASIO_COMPLETION_TOKEN_FOR(void(result<migration_summary>)) Token>
  auto async_run(Token&& token) {
    return detail::initiate<Token>(this, token, &migration_source::start_run);
  }

  /// Gives up, until the destination is told to run the guest. The destination hears that the migration was cancelled, if it
  /// listens within a second; async_run completes with operation_aborted. From the hand-over on there is nothing to give up,
  /// and this does nothing.
  void cancel() noexcept;
  /// No more pages are sent until release(). What is on its way arrives; the guest runs on. In the blackout it waits until
  /// that is over.
  void hold() noexcept;
  void release();
  /// Of all channels together; 0: unlimited.
  void set_bandwidth(std::uint64_t bytes_per_s) noexcept;

 private:
  void start_run(completion<migration_summary> done);

  class state;
  std::shared_ptr<state> state_;
};

}  // namespace tidemark
