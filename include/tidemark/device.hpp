// SPDX-License-Identifier: Apache-2.0
//
// A VFIO device opened through its group: what it is, and the file for its own interface.
//
// A `device` is a handle: copies name the same open file. The file is closed by address_space::async_detach or
// container::async_close_device, which do it beside the loop since a close may reset the device; else with the last copy, on
// whichever thread that goes. What the device says of itself stays readable after that.
//
// Threading: copies may be used from any thread; calls on the file block as the device's driver does. None is under way when
// the device is closed, and what was mapped of it (mmap) is unmapped before: a mapping keeps the device, and the device its
// group, while the close does nothing. Life: the kernel outlives the file.
//
// Kernel interface: <linux/vfio.h>, VFIO_DEVICE_GET_INFO, _GET_REGION_INFO, _GET_IRQ_INFO, VFIO_DEVICE_FEATURE.

#pragma once

#include <tidemark/error.hpp>
#include <tidemark/kernel.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace tidemark {

/// Bytes of a device's region that may be mapped into this process.
struct mappable_area {
  std::uint64_t offset = 0;  ///< bytes into the region
  std::uint64_t size = 0;    ///< bytes

  friend bool operator==(const mappable_area&, const mappable_area&) = default;
};

/// A region of the device: a BAR, its configuration space. Read with pread and written with pwrite of the device's file.
struct device_region {
  std::uint32_t index = 0;        ///< of VFIO_DEVICE_GET_REGION_INFO: for PCI, VFIO_PCI_BAR0_REGION_INDEX and so on
  std::uint64_t size = 0;         ///< bytes; 0: the device has no region of this index
  std::uint64_t file_offset = 0;  ///< of its first byte in the device's file
  bool readable = false;
  bool writable = false;
  std::vector<mappable_area> mappable;  ///< ascending; all of the region, unless the device says which parts
  bool msix_mappable = false;           ///< also where the MSI-X table stands
  std::uint32_t type = 0;               ///< VFIO_REGION_TYPE_*; 0: one of those that every device of its bus has
  std::uint32_t subtype = 0;
};

/// A kind of interrupt: INTx, MSI, ...
struct device_irq {
  std::uint32_t index = 0;  ///< of VFIO_DEVICE_GET_IRQ_INFO: for PCI, VFIO_PCI_INTX_IRQ_INDEX and so on
  std::uint32_t count = 0;  ///< vectors; 0: the device has none of this kind
  std::uint32_t flags = 0;  ///< VFIO_IRQ_INFO_*
};

/// How the device's state can be taken elsewhere: VFIO_DEVICE_FEATURE_MIGRATION. Without `stop_copy` it cannot.
struct device_migration {
  bool stop_copy = false;  ///< stopped, then read
  bool p2p = false;        ///< can be kept from starting DMA to other devices while it still answers theirs
  bool pre_copy = false;   ///< read while it runs
};

struct device_info {
  std::uint32_t flags = 0;  ///< VFIO_DEVICE_FLAGS_*: which bus
  bool can_reset = false;   ///< VFIO_DEVICE_RESET works
  std::vector<device_region> regions;
  std::vector<device_irq> irqs;
  device_migration migration;
  bool logs_dma = false;  ///< VFIO_DEVICE_FEATURE_DMA_LOGGING_START: it can tell what it dirtied
};

class device {
 public:
  device(kernel::files& kernel, kernel::handle file, std::string name, unsigned group, device_info info)
      : about_(std::make_shared<about>(kernel, file.release(), std::move(name), group, std::move(info))) {}

  /// As its group knows it: a PCI address, a platform device's name.
  const std::string& name() const noexcept { return about_->name; }
  /// The number of its IOMMU group.
  unsigned group() const noexcept { return about_->group; }
  const device_info& info() const noexcept { return about_->info; }

  /// The file for the device's own interface, and the kernel that understands it. -1 once it is closed.
  int file() const noexcept { return about_->fd; }
  kernel::files& kernel() const noexcept { return about_->kernel; }
  bool is_open() const noexcept { return file() >= 0; }

  /// Whether they name the same open file.
  friend bool operator==(const device& a, const device& b) noexcept { return a.about_ == b.about_; }

  /// Closes the file for all copies; harmless when it is closed. Blocks for as long as the driver's close.
  void close() noexcept { about_->close(); }

 private:
  struct about {
    about(kernel::files& files, int file, std::string name_, unsigned group_, device_info info_)
        : kernel(files), fd(file), name(std::move(name_)), group(group_), info(std::move(info_)) {}
    about(const about&) = delete;
    ~about() { close(); }
    void close() noexcept {
      if (const int open = fd.exchange(-1); open >= 0) kernel.close(open);
    }

    kernel::files& kernel;
    std::atomic<int> fd;
    const std::string name;
    const unsigned group;
    const device_info info;
  };
  std::shared_ptr<about> about_;
};

}  // namespace tidemark
