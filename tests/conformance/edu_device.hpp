// SPDX-License-Identifier: Apache-2.0
//
// QEMU's edu device, opened through VFIO: its DMA copies mapped memory into a buffer of its own, and from there into other
// mapped memory. It takes addresses of 28 bits.
//
// Threading: one thread.

#pragma once

#include <linux/vfio.h>

#include <cstdint>
#include <string>

#include "conformance/bench.hpp"

namespace tidemark::conformance {

class edu_device {
 public:
  static constexpr std::uint32_t copied = page - 8;  ///< bytes: the emulator aborts on a copy that ends at the buffer's end

  /// `device`: the device's file, which outlives this.
  edu_device(kernel::files& kernel, int device) : kernel_(kernel), device_(device) {
    config_ = region(VFIO_PCI_CONFIG_REGION_INDEX);
    registers_ = region(VFIO_PCI_BAR0_REGION_INDEX);
    constexpr std::uint64_t pci_command = 4;
    constexpr std::uint16_t memory_and_master = 0x2 | 0x4;
    std::uint16_t command = 0;
    expect(kernel_.pread(device_, &command, sizeof(command), config_ + pci_command), sizeof(command),
           "pread of PCI_COMMAND");
    command |= memory_and_master;
    expect(kernel_.pwrite(device_, &command, sizeof(command), config_ + pci_command), sizeof(command), "pwrite of it");
    expect(get(identification) & 0xffff, 0x00ed, "the edu device's identification");
  }

  void copy_in(std::uint32_t iova) { transfer(iova, buffer, command_start); }
  void copy_out(std::uint32_t iova) { transfer(buffer, iova, command_start | command_to_memory); }

 private:
  // docs/specs/edu of QEMU
  static constexpr std::uint64_t identification = 0x00;
  static constexpr std::uint64_t dma_source = 0x80;
  static constexpr std::uint64_t dma_destination = 0x88;
  static constexpr std::uint64_t dma_count = 0x90;
  static constexpr std::uint64_t dma_command = 0x98;
  static constexpr std::uint32_t command_start = 1;
  static constexpr std::uint32_t command_to_memory = 2;
  static constexpr std::uint32_t buffer = 0x40000;  // the device's own, of one page; it takes addresses of 28 bits

  std::uint64_t region(std::uint32_t index) const {
    vfio_region_info info{};
    info.argsz = sizeof(info);
    info.index = index;
    expect(kernel_.ioctl(device_, VFIO_DEVICE_GET_REGION_INFO, &info), 0, "GET_REGION_INFO");
    expect_true(info.size > 0, "region " + std::to_string(index) + " is there");
    return info.offset;
  }

  std::uint32_t get(std::uint64_t which) const {
    std::uint32_t value = 0;
    expect(kernel_.pread(device_, &value, sizeof(value), registers_ + which), sizeof(value), "pread of a register");
    return value;
  }

  void set(std::uint64_t which, std::uint32_t value) {
    expect(kernel_.pwrite(device_, &value, sizeof(value), registers_ + which), sizeof(value), "pwrite of a register");
  }

  // The device takes a tenth of a second; a read of a register some microseconds.
  void transfer(std::uint32_t source, std::uint32_t destination, std::uint32_t command) {
    constexpr int reads_max = 5'000'000;
    set(dma_source, source);
    set(dma_destination, destination);
    set(dma_count, copied);
    set(dma_command, command);
    for (int i = 0; i < reads_max; ++i) {
      if ((get(dma_command) & command_start) == 0) return;
    }
    throw failure("the device did not finish");
  }

  kernel::files& kernel_;
  int device_;
  std::uint64_t config_ = 0;
  std::uint64_t registers_ = 0;
};

}  // namespace tidemark::conformance
