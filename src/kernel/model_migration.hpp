// SPDX-License-Identifier: Apache-2.0
//
// The test device's migration: states, arcs between them, and the data file of a stay in RESUMING, or in
// PRE_COPY, PRE_COPY_P2P and STOP_COPY.
//
// Threading: the model's mutex is held around every call.

#pragma once

#include <linux/vfio.h>

#include <cstddef>
#include <memory>

#include "kernel/model_file.hpp"
#include "kernel/test_device.h"
#include "kernel/test_stream.h"
#include "kernel/vfio_newer.h"

namespace tidemark::kernel::modelled {

/// What a device has besides its place in the state machine, and takes with it.
struct test_device_state {
  tidemark_test_state counters{};
  std::uint64_t ballast_bytes = 0;
};

/// The stream of one stay. Lives as long as its file, which may be longer than the device is in that state, or open at all.
struct data_stream {
  bool saves = false;  ///< else it is written
  bool ended = false;  ///< the device has left the state
  tidemark_test_saving saving{};
  tidemark_test_loading loading{};
};

class data_file final : public file {
 public:
  explicit data_file(std::shared_ptr<data_stream> stream) noexcept : stream_(std::move(stream)) {}
  int ioctl(unsigned long request, std::uintptr_t argument) override;
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
  bool running() const noexcept { return state_ == VFIO_DEVICE_STATE_RUNNING || state_ == VFIO_DEVICE_STATE_PRE_COPY; }

  /// Goes to a state, by way of those between. 0 or a negative errno; a failure on the way leaves the device in the last
  /// state reached. `opened` is the stream of the state, when it begins one.
  int go(unsigned to, std::uint32_t flags, test_device_state& device, std::shared_ptr<data_stream>& opened);
  /// The device was used: what its data file has told of it is old.
  void used(const test_device_state& device) noexcept;
  /// As an open and a reset do it.
  void reset() noexcept;
  /// The last close: the data file ends, the state stays.
  void end() noexcept;

 private:
  int step(vfio_device_mig_state next, test_device_state& device, std::shared_ptr<data_stream>& opened);
  std::shared_ptr<data_stream> begin(vfio_device_mig_state next, const test_device_state& device);
  int finish_resume(test_device_state& device);

  vfio_device_mig_state state_ = VFIO_DEVICE_STATE_RUNNING;
  std::shared_ptr<data_stream> stream_;
};

}  // namespace tidemark::kernel::modelled
