// SPDX-License-Identifier: Apache-2.0
//
// The test device's migration: states, arcs between them, and the data file of a stay in STOP_COPY or RESUMING.
//
// Threading: the model's mutex is held around every call.

#pragma once

#include <linux/vfio.h>

#include <array>
#include <cstddef>
#include <memory>

#include "kernel/model_file.hpp"
#include "kernel/test_device.h"

namespace tidemark::kernel::modelled {

/// The stream of one stay. Lives as long as its file, which may be longer than the device is in that state, or open at all.
struct data_stream {
  bool saving = false;
  bool ended = false;        ///< the device has left the state
  std::size_t position = 0;  ///< bytes that have been read or written
  std::array<std::byte, sizeof(tidemark_test_migration_data)> bytes{};
};

class data_file final : public file {
 public:
  explicit data_file(std::shared_ptr<data_stream> stream) noexcept : stream_(std::move(stream)) {}
  int ioctl(unsigned long, std::uintptr_t) override { return -ENOTTY; }
  ssize_t read(void* buffer, std::size_t bytes) override;
  ssize_t write(const void* buffer, std::size_t bytes) override;
  ssize_t pread(void*, std::size_t, std::uint64_t) override { return -ESPIPE; }
  ssize_t pwrite(const void*, std::size_t, std::uint64_t) override { return -ESPIPE; }

 private:
  std::shared_ptr<data_stream> stream_;
};

class migration {
 public:
  vfio_device_mig_state state() const noexcept { return state_; }
  bool running() const noexcept { return state_ == VFIO_DEVICE_STATE_RUNNING; }

  /// Goes to a state, by way of those between. 0 or a negative errno; a failure on the way leaves the device in the last
  /// state reached. `opened` is the stream of the state, when it has one.
  int go(unsigned to, std::uint32_t flags, tidemark_test_state& device, std::shared_ptr<data_stream>& opened);
  /// As an open and a reset do it.
  void reset() noexcept;
  /// The last close: the data file ends, the state stays.
  void end() noexcept;

 private:
  int step(vfio_device_mig_state next, tidemark_test_state& device, std::shared_ptr<data_stream>& opened);
  int finish_resume(tidemark_test_state& device);

  vfio_device_mig_state state_ = VFIO_DEVICE_STATE_RUNNING;
  std::shared_ptr<data_stream> stream_;
};

}  // namespace tidemark::kernel::modelled
