// SPDX-License-Identifier: Apache-2.0
//
// The stream of one device's state (R34): read at the source, written at the destination, in pieces of any size. What is in
// it only the device's driver knows; its order is kept, its pieces need not be.
//
//   for (;;) {                                        // one round of pre-copy, and once more after device_states::stop()
//     auto got = co_await file.read(buffer);          // result<state_read>
//     if (!got || got->bytes == 0) break;             // an error; or nothing more for now (got->ended: nothing more at all)
//     co_await send(frame(index, buffer.first(got->bytes)));
//   }
//   co_await file.write(frame);                       // at the destination, frame after frame
//
// Where the kernel is the host's and the place has a ring, the call is a request of that ring: no thread of ours waits for
// it. A driver whose data file knows no non-blocking read has the kernel make it on a thread of its own. Everywhere else the
// call is made through kernel::files on a worker. No call blocks the place's executor.
//
// Threading: all calls on the place's executor, one at a time; the files of different devices at once, on different loops.
// The device_states it came from may change the device's state meanwhile, on its own executor, and may end before it does.
// Memory: the span stays as it is until the task completes. Destroying a task that waits is allowed on a ring only.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>
#include <tidemark/threads.hpp>

#include <boost/asio/any_io_executor.hpp>

#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>

#include "ring/task.hpp"
#include "ring/uring_loop.hpp"

namespace tidemark::migrate {

/// What a read gave. Without bytes: nothing for now, as in pre-copy while the device is idle, or before its stream has
/// begun; or, with `ended`, the stream is complete.
struct state_read {
  std::size_t bytes = 0;
  bool ended = false;
};

/// Where the calls are made and completed.
struct state_place {
  boost::asio::any_io_executor executor;  ///< a single thread or strand
  workers& threads;
  ring::uring_loop* ring = nullptr;  ///< the loop of `executor`, where it is one of io_uring
};

/// The data file that a device has at the moment, or had. Any thread.
class data_slot {
 public:
  using open_file = std::shared_ptr<const kernel::handle>;

  void open(kernel::handle file) {
    auto shared = std::make_shared<const kernel::handle>(std::move(file));
    const std::lock_guard lock(mutex_);
    file_ = std::move(shared);
    closed_ = false;
  }
  /// A call under way on it keeps it open until it has ended.
  void close() noexcept {
    const std::lock_guard lock(mutex_);
    closed_ = closed_ || file_ != nullptr;
    file_.reset();
  }
  /// Empty: there is none.
  open_file get() const {
    const std::lock_guard lock(mutex_);
    return file_;
  }
  /// There is none any more.
  bool is_closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
  }

 private:
  mutable std::mutex mutex_;
  open_file file_;
  bool closed_ = false;
};

class state_file {
 public:
  state_file(kernel::files& kernel, std::string name, std::shared_ptr<const data_slot> data, state_place where);

  /// The device's name.
  const std::string& name() const noexcept { return name_; }

  /// What there is, up to the size of `into` (not 0). errc::closed: the migration was given up.
  ring::task<result<state_read>> read(std::span<std::byte> into);

  /// All of `from`. errc::closed: the device is not resuming.
  ring::task<result<void>> write(std::span<const std::byte> from);

 private:
  ring::task<ssize_t> read_some(int fd, std::span<std::byte> into);
  ring::task<ssize_t> write_some(int fd, std::span<const std::byte> from);
  bool on_ring() const noexcept { return place_.ring != nullptr && kernel_.has_real_descriptors(); }

  kernel::files& kernel_;
  std::string name_;
  std::shared_ptr<const data_slot> data_;
  state_place place_;
};

}  // namespace tidemark::migrate
