// SPDX-License-Identifier: Apache-2.0
//
// edu_dma: proves by data that a type1 mapping is what a device sees. QEMU's edu device, behind a real IOMMU driver, copies
// mapped memory into its buffer and from there into other mapped memory; where nothing is mapped, or only for reading, it
// changes nothing.
//
// Runs on a real kernel only (tools/vm). One line a step; the status is 0 when all hold, 77 when there is no edu device.

#include <cstdio>
#include <string>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

// The device: docs/specs/edu of QEMU.
constexpr std::uint64_t identification = 0x00;
constexpr std::uint64_t dma_source = 0x80;
constexpr std::uint64_t dma_destination = 0x88;
constexpr std::uint64_t dma_count = 0x90;
constexpr std::uint64_t dma_command = 0x98;
constexpr std::uint32_t command_start = 1;
constexpr std::uint32_t command_to_memory = 2;
constexpr std::uint32_t buffer = 0x40000;   // the device's own, of one page; it takes addresses of 28 bits
constexpr std::uint32_t copied = page - 8;  // the emulator aborts on a copy that ends at the buffer's end
constexpr std::uint32_t from_iova = 0x100000;
constexpr std::uint32_t to_iova = 0x300000;

class edu_device {
 public:
  explicit edu_device(const session& s) : kernel_(s.on.kernel), device_(s.device()) {
    config_ = region(VFIO_PCI_CONFIG_REGION_INDEX);
    registers_ = region(VFIO_PCI_BAR0_REGION_INDEX);
    constexpr std::uint64_t pci_command = 4;
    constexpr std::uint16_t memory_and_master = 0x2 | 0x4;
    std::uint16_t command = 0;
    expect(kernel_.pread(device_.get(), &command, sizeof(command), config_ + pci_command), sizeof(command),
           "pread of PCI_COMMAND");
    command |= memory_and_master;
    expect(kernel_.pwrite(device_.get(), &command, sizeof(command), config_ + pci_command), sizeof(command), "pwrite of it");
    expect(get(identification) & 0xffff, 0x00ed, "the edu device's identification");
  }

  void copy_in(std::uint32_t iova) { transfer(iova, buffer, command_start); }
  void copy_out(std::uint32_t iova) { transfer(buffer, iova, command_start | command_to_memory); }

 private:
  std::uint64_t region(std::uint32_t index) const {
    vfio_region_info info{};
    info.argsz = sizeof(info);
    info.index = index;
    expect(kernel_.ioctl(device_.get(), VFIO_DEVICE_GET_REGION_INFO, &info), 0, "GET_REGION_INFO");
    expect_true(info.size > 0, "region " + std::to_string(index) + " is there");
    return info.offset;
  }

  std::uint32_t get(std::uint64_t which) const {
    std::uint32_t value = 0;
    expect(kernel_.pread(device_.get(), &value, sizeof(value), registers_ + which), sizeof(value), "pread of a register");
    return value;
  }

  void set(std::uint64_t which, std::uint32_t value) {
    expect(kernel_.pwrite(device_.get(), &value, sizeof(value), registers_ + which), sizeof(value), "pwrite of a register");
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
  kernel::handle device_;
  std::uint64_t config_ = 0;
  std::uint64_t registers_ = 0;
};

void fill(const memory& ram, std::uint8_t seed) {
  for (std::uint64_t i = 0; i < page; ++i) ram.at(i) = static_cast<std::uint8_t>(seed + i * 7 + i / 256);
}

std::uint64_t differing_bytes(const memory& left, const memory& right) {
  std::uint64_t count = 0;
  for (std::uint64_t i = 0; i < copied; ++i) count += left.at(i) != right.at(i) ? 1U : 0U;
  return count;
}

void told(const char* step) { std::printf("ok      edu_dma: %s\n", step); }

void run(const bench& b) {
  const memory source(page);
  const memory target(page);
  const memory expected(page);
  // Before it is mapped: kernels before 6.2 pin the shared zero page for a mapping to read of memory that was never written,
  // and the device would go on seeing that page.
  fill(source, 3);
  const session s = backed_session(b);
  expect(s.map(from_iova, page, source.address(), VFIO_DMA_MAP_FLAG_READ), 0, "MAP to read");
  expect(s.map(to_iova, page, target.address()), 0, "MAP to read and write");
  edu_device edu(s);
  told("the device answers through its regions");

  fill(target, 77);
  fill(expected, 3);
  edu.copy_in(from_iova);
  edu.copy_out(to_iova);
  expect(differing_bytes(target, expected), 0, "bytes that did not arrive");
  told("memory goes to the device and comes back at another address");

  fill(target, 99);
  fill(expected, 3);
  edu.copy_out(from_iova);
  expect(differing_bytes(source, expected), 0, "bytes changed through a mapping to read");
  told("a mapping to read cannot be written");

  std::uint64_t size = page;
  expect(s.unmap(to_iova, size), 0, "UNMAP");
  fill(expected, 99);
  edu.copy_out(to_iova);
  expect(differing_bytes(target, expected), 0, "bytes changed after the UNMAP");
  told("memory that was unmapped is out of reach");
}

}  // namespace
}  // namespace tidemark::conformance

int main() {
  using namespace tidemark;
  try {
    conformance::run(conformance::bench(kernel::host_kernel(), conformance::running_version(), conformance::discover()));
  } catch (const conformance::skipped& reason) {
    std::printf("skipped edu_dma: %s\n", reason.what());
    return 77;
  } catch (const std::exception& reason) {
    std::printf("FAILED  edu_dma: %s\n", reason.what());
    return 1;
  }
  return 0;
}
