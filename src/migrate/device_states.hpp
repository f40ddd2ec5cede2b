// SPDX-License-Identifier: Apache-2.0
//
// The state of all of a guest's devices in one migration (R32 to R35): when each begins to save, stops, goes on, or takes
// over what the source's has saved. The bytes themselves go through each device's state_file.
//
//   source:       start_pre_copy()   those that can save while they run begin to
//                 pre_copy_left()    as often as wanted: what a read of their files would give
//                 stop()             the guest's CPUs are paused before; after it each file is read to its end
//                 resume()           after a migration that failed, wherever it was: all run again, and have no files
//   destination:  start_resuming()   each file is written from then on
//                 load()             all was written: the devices take it over, or one says why not; none runs yet
//                 finish()           they run; does load() first where nobody did
//                 give_up()          after a migration that failed: all are reset
//
// The two sides know a device by its index in the list and by its name there.
//
// Invariants
//  1. No device stops answering DMA before every device that can has been kept from starting any (RUNNING_P2P or
//     PRE_COPY_P2P), and none starts any before every device answers again. Devices without P2P stop after all others are
//     kept from it, before any of those stops; and run again in between, too.
//  2. A device that cannot migrate makes start_pre_copy(), stop() and start_resuming() fail before anything was changed.
//  3. A device whose change fails is in the state that the error tells: it recovered, was reset, or is lost. The others are
//     where they got to. Whatever failed, resume() or give_up() brings back all that are not lost.
//
// Threading: the calls are awaited on the executor, one at a time. Each device's ioctls block, so they are made on a worker,
// those of different devices at once. All parts outlive the tasks. A detached device must not be in the list.

#pragma once

#include <tidemark/device.hpp>
#include <tidemark/error.hpp>
#include <tidemark/threads.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/device_state.hpp"
#include "migrate/state_file.hpp"
#include "ring/task.hpp"

namespace tidemark::migrate {

/// What there is to send of one device, by its driver's estimate.
struct device_left {
  std::string name;
  std::uint64_t initial_bytes = 0;               ///< to be read before it is stopped, best; 0 where it has no pre-copy
  std::uint64_t dirty_bytes = 0;                 ///< changed since it was read
  std::optional<std::uint64_t> stop_copy_bytes;  ///< of a stop-copy; nothing: the kernel does not say
};

struct devices_left {
  std::vector<device_left> devices;   ///< in their order
  std::uint64_t pre_copy_bytes = 0;   ///< initial and dirty, of all
  std::uint64_t stop_copy_bytes = 0;  ///< of those whose kernel says
  bool stop_copy_known = true;        ///< of all devices
};

class device_states {
 public:
  device_states(const std::vector<device>& devices, boost::asio::any_io_executor executor, workers& threads);
  device_states(const device_states&) = delete;
  /// Closes the data files; what state they leave devices in is for resume() or give_up() before.
  ~device_states();

  std::size_t size() const noexcept { return devices_.size(); }
  const std::string& name(std::size_t index) const { return devices_.at(index).of.name(); }
  backend::device_state state(std::size_t index) const { return devices_.at(index).state; }

  /// The stream of a device's state, for the place that carries it. Good for the whole migration, from before it begins.
  state_file file(std::size_t index, state_place where) const;

  /// Whether all can migrate; the error says which cannot, and what to do.
  result<void> check() const;

  ring::task<result<void>> start_pre_copy();
  ring::task<result<devices_left>> pre_copy_left();
  ring::task<result<void>> stop();
  ring::task<result<void>> resume();

  ring::task<result<void>> start_resuming();
  ring::task<result<void>> load();
  ring::task<result<void>> finish();
  ring::task<result<void>> give_up();

 private:
  struct member {
    device of;
    backend::device_state state = backend::device_state::running;
    std::shared_ptr<data_slot> data;

    bool has_p2p() const noexcept { return of.info().migration.p2p; }
    bool has_pre_copy() const noexcept { return of.info().migration.pre_copy; }
  };
  /// Where a device is to go, and where instead when that fails. `reset` is a way to RUNNING.
  struct way {
    backend::device_state to;
    backend::device_state recover;
    bool reset = false;
  };
  /// Nothing: it stays where it is.
  using choice = std::optional<way> (*)(const member&);
  struct step {
    member& who;
    way where;
    std::optional<error> failure;
  };

  static std::optional<way> to_pre_copy(const member& of);
  static std::optional<way> to_p2p(const member& of);
  static std::optional<way> without_p2p_to_stop_copy(const member& of);
  static std::optional<way> to_stop_copy(const member& of);
  static std::optional<way> back_to_p2p(const member& of);
  static std::optional<way> without_p2p_to_running(const member& of);
  static std::optional<way> to_running(const member& of);
  static std::optional<way> to_resuming(const member& of);
  static std::optional<way> from_resuming(const member& of);
  static std::optional<way> to_reset(const member& of);

  static backend::state_change change(const member& of, way where);
  ring::task<result<void>> move_all(choice which);
  ring::task<> move_one(step& one, ring::latch& done);
  ring::task<result<void>> run_all();
  result<devices_left> ask_left() const;

  std::vector<member> devices_;
  boost::asio::any_io_executor executor_;
  workers& threads_;
};

}  // namespace tidemark::migrate
