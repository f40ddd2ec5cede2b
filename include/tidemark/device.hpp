// SPDX-License-Identifier: Apache-2.0
//
// A VFIO device opened through its group. Closing it (the destructor) is a close(2) of its file.
//
// Threading: a value that owns a file; its calls block as the device's driver does, and may be made from any thread.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>

#include <cstdint>
#include <string>
#include <utility>

namespace tidemark {

/// What VFIO_DEVICE_GET_INFO says.
struct device_info {
  std::uint32_t flags = 0;  ///< VFIO_DEVICE_FLAGS_*
  std::uint32_t regions = 0;
  std::uint32_t interrupts = 0;
};

class device {
 public:
  device(kernel::files& kernel, kernel::handle file, std::string name, device_info info) noexcept
      : kernel_(&kernel), file_(std::move(file)), name_(std::move(name)), info_(info) {}

  const std::string& name() const noexcept { return name_; }
  const device_info& info() const noexcept { return info_; }

  /// The file for the device's own interface, and the kernel that understands it.
  int file() const noexcept { return file_.get(); }
  kernel::files& kernel() const noexcept { return *kernel_; }

 private:
  kernel::files* kernel_;
  kernel::handle file_;
  std::string name_;
  device_info info_;
};

}  // namespace tidemark
