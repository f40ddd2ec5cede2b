// SPDX-License-Identifier: Apache-2.0
//
// Devices: opening them, what they say of themselves, and the test device's doorbell.

#include <cerrno>

#include "conformance/bench.hpp"
#include "kernel/test_device.h"

namespace tidemark::conformance {
namespace {

int try_device(const bench& b, const kernel::handle& group, const std::string& name) {
  const int fd = b.kernel.ioctl(group.get(), VFIO_GROUP_GET_DEVICE_FD, name.c_str());
  if (fd >= 0) b.kernel.close(fd);
  return fd >= 0 ? 0 : fd;
}

tidemark_test_state state_of(const bench& b, const kernel::handle& device) {
  tidemark_test_state state{};
  expect(b.kernel.read(device.get(), &state, sizeof(state)), sizeof(state), "read of the state");
  return state;
}

// --- opening ---

void unknown_name(bench& b) {
  const session s = emulated_session(b);
  expect(try_device(b, s.groups[0], "nobody"), -ENODEV, "a name that no device has");
  expect(try_device(b, s.groups[0], b.emulated(1).device), -ENODEV, "a device of another group");
}

void too_early(bench& b) {
  const auto group = b.open_group(b.emulated());
  expect(try_device(b, group, b.emulated().device), -EINVAL, "without a container");
  const auto container = b.open_container();
  expect(b.attach(group, container), 0, "SET_CONTAINER");
  expect(try_device(b, group, b.emulated().device), -EINVAL, "without a type");
  expect(try_device(b, group, "nobody"), -ENODEV, "an unknown name is noticed first");
}

void opened_twice(bench& b) {
  const session s = emulated_session(b);
  const auto first = s.device();
  const auto second = s.device();
  expect_true(first.get() != second.get(), "two descriptors");
  expect(b.kernel.ioctl(s.groups[0].get(), VFIO_GROUP_UNSET_CONTAINER), -EBUSY, "UNSET_CONTAINER");
}

// --- what it says ---

void info_argsz(bench& b) {
  const session s = emulated_session(b);
  const auto device = s.device();
  vfio_device_info info{};
  info.argsz = offsetof(vfio_device_info, cap_offset) - 1;
  expect(b.kernel.ioctl(device.get(), VFIO_DEVICE_GET_INFO, &info), -EINVAL, "GET_INFO");
}

void info_of_test_device(bench& b) {
  const session s = emulated_session(b);
  const auto device = s.device();
  vfio_device_info info{};
  info.argsz = sizeof(info);
  expect(b.kernel.ioctl(device.get(), VFIO_DEVICE_GET_INFO, &info), 0, "GET_INFO");
  expect(info.flags, VFIO_DEVICE_FLAGS_RESET, "flags");
  expect(info.num_regions, 0, "regions");
  expect(info.num_irqs, 0, "irqs");
}

void info_of_pci(bench& b) {
  const session s = backed_session(b);
  const auto device = s.device();
  vfio_device_info info{};
  info.argsz = sizeof(info);
  expect(b.kernel.ioctl(device.get(), VFIO_DEVICE_GET_INFO, &info), 0, "GET_INFO");
  expect(info.flags & VFIO_DEVICE_FLAGS_PCI, VFIO_DEVICE_FLAGS_PCI, "the flag of PCI devices");
}

void no_regions(bench& b) {
  const session s = emulated_session(b);
  const auto device = s.device();
  vfio_region_info region{};
  region.argsz = sizeof(region);
  expect(b.kernel.ioctl(device.get(), VFIO_DEVICE_GET_REGION_INFO, &region), -EINVAL, "GET_REGION_INFO");
  vfio_irq_info irq{};
  irq.argsz = sizeof(irq);
  expect(b.kernel.ioctl(device.get(), VFIO_DEVICE_GET_IRQ_INFO, &irq), -EINVAL, "GET_IRQ_INFO");
  expect(b.kernel.ioctl(device.get(), VFIO_IOMMU_GET_INFO), -ENOTTY, "a request no device knows");
}

// --- the doorbell ---

void writes_memory(bench& b) {
  const session s = emulated_session(b);
  const memory ram(4 * page);
  expect(s.map(0x100000, 4 * page, ram.address()), 0, "MAP");
  const auto device = s.device();
  expect(ring(b, device, 0x100000 + page - 3, 8, 0x1122334455667788), 0, "a doorbell across two pages");
  expect(ram.at(page - 4), 0, "the byte before");
  expect(ram.at(page - 3), 0x88, "its first byte");
  expect(ram.at(page + 4), 0x11, "its last byte");
  expect(ram.at(page + 5), 0, "the byte behind");
}

void counts(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  const auto device = s.device();
  expect(ring(b, device, 0, 16, 1), 0, "a doorbell");
  expect(ring(b, device, 0, page, 1), 0, "another");
  expect(state_of(b, device).doorbells, 2, "doorbells");
  expect(state_of(b, device).bytes, 16 + page, "bytes");
  expect(b.kernel.ioctl(device.get(), VFIO_DEVICE_RESET), 0, "RESET");
  expect(state_of(b, device).doorbells, 0, "doorbells after the reset");
}

void first_open_resets(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  auto device = s.device();
  expect(ring(b, device, 0, 8, 1), 0, "a doorbell");
  const auto second = s.device();
  expect(state_of(b, second).doorbells, 1, "doorbells seen by a second descriptor");
}

void reopen_resets(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  auto device = s.device();
  expect(ring(b, device, 0, 8, 1), 0, "a doorbell");
  device.reset();
  device = s.device();
  expect(state_of(b, device).doorbells, 0, "doorbells after close and open");
}

void malformed(bench& b) {
  const session s = emulated_session(b);
  const memory ram(2 * page);
  expect(s.map(0, 2 * page, ram.address()), 0, "MAP");
  const auto device = s.device();
  const tidemark_test_doorbell bell{.iova = 0, .length = 8, .value = 1};
  expect(b.kernel.write(device.get(), &bell, 0), -EINVAL, "no doorbell");
  expect(b.kernel.write(device.get(), &bell, sizeof(bell) - 1), -EINVAL, "a part of one");
  expect(ring(b, device, 0, 0, 1), -EINVAL, "no length");
  expect(ring(b, device, 0, 12, 1), -EINVAL, "a length that is no multiple of 8");
  expect(ring(b, device, 0, TIDEMARK_TEST_DOORBELL_BYTES_MAX + 8, 1), -EINVAL, "a length over the maximum");
  expect(ring(b, device, top - 3, 8, 1), -EINVAL, "a range that wraps");
  std::uint64_t half = 0;
  expect(b.kernel.read(device.get(), &half, sizeof(half)), -EINVAL, "a read of half the state");
}

void not_mapped(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  const auto device = s.device();
  expect(ring(b, device, 16 * page, 8, 1), -EINVAL, "an IOVA that is not mapped");
  expect(ring(b, device, 0, 2 * page, 0x31), -EINVAL, "a range that leaves its mapping");
  expect(ram.at(page - 8), 0x31, "the page before the failing one is written");
}

void not_permitted(bench& b) {
  const session s = emulated_session(b);
  const memory ram(2 * page);
  expect(s.map(0, page, ram.address(), VFIO_DMA_MAP_FLAG_READ), 0, "MAP to read");
  expect(s.map(page, page, ram.address(), VFIO_DMA_MAP_FLAG_WRITE), 0, "MAP to write");
  const auto device = s.device();
  expect(ring(b, device, 0, 8, 1), -EPERM, "a write where only reading is allowed");
  expect(ring(b, device, page, 8, 1), -EPERM, "a write where reading is not allowed");
}

void memory_gone(bench& b) {
  const session s = emulated_session(b);
  memory ram(page);
  const memory fixed(page, false);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  expect(s.map(page, page, fixed.address()), 0, "MAP of memory this process may only read");
  const auto device = s.device();
  ram.release();
  expect(ring(b, device, 0, 8, 1), -EFAULT, "memory that is gone");
  expect(ring(b, device, page, 8, 1), -EFAULT, "memory that may not be written");
}

void several_bells(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  const auto device = s.device();
  const std::array<tidemark_test_doorbell, 3> bells{{{0, 8, 1}, {64 * page, 8, 2}, {8, 8, 3}}};
  expect(b.kernel.write(device.get(), bells.data(), sizeof(bells)), sizeof(bells[0]),
         "bytes carried out before the failing one");
  expect(ram.at(0), 1, "the first");
  expect(ram.at(8), 0, "the last");
}

void across_mappings(bench& b) {
  const session s = emulated_session(b);
  const memory low(page);
  const memory high(page);
  expect(s.map(0, page, low.address()), 0, "MAP");
  expect(s.map(page, page, high.address()), 0, "MAP of the neighbour");
  const auto device = s.device();
  expect(ring(b, device, page - 8, 16, 0x66), 0, "a doorbell across both");
  expect(low.at(page - 8), 0x66, "the last word of the first");
  expect(high.at(0), 0x66, "the first word of the second");
}

}  // namespace

std::vector<test_case> device_cases() {
  return {
      {"device: an unknown name is ENODEV", unknown_name},
      {"device: opening it before its group has container and type is EINVAL", too_early},
      {"device: it can be opened twice", opened_twice},
      {"device: GET_INFO with a short argsz is EINVAL", info_argsz},
      {"device: GET_INFO of a test device", info_of_test_device},
      {"device: GET_INFO of a PCI device", info_of_pci},
      {"device: a test device has no regions and no irqs", no_regions},
      {"device: a doorbell writes mapped memory, and nothing beside it", writes_memory},
      {"device: doorbells are counted until the reset", counts},
      {"device: a second open does not reset it", first_open_resets},
      {"device: the first open after a close resets it", reopen_resets},
      {"device: malformed doorbells are EINVAL", malformed},
      {"device: a doorbell outside the mappings is EINVAL", not_mapped},
      {"device: a doorbell needs a mapping to read and write", not_permitted},
      {"device: a doorbell on memory that is gone is EFAULT", memory_gone},
      {"device: doorbells stop at the first that fails", several_bells},
      {"device: a doorbell goes across mappings", across_mappings},
  };
}

}  // namespace tidemark::conformance
