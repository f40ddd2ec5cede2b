// SPDX-License-Identifier: Apache-2.0
//
// /dev/vfio/<n>: opening, status, and the life it shares with its container and its devices.

#include <fcntl.h>

#include <array>
#include <cerrno>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint32_t viable = VFIO_GROUP_FLAGS_VIABLE;
constexpr std::uint32_t attached = VFIO_GROUP_FLAGS_CONTAINER_SET;

std::uint32_t status_of(const bench& b, const kernel::handle& group) {
  vfio_group_status status{.argsz = sizeof(status), .flags = ~0U};
  expect(b.kernel.ioctl(group.get(), VFIO_GROUP_GET_STATUS, &status), 0, "GET_STATUS");
  return status.flags;
}

int try_open(const bench& b, const group_name& which) {
  const int fd = b.kernel.open(("/dev/vfio/" + std::to_string(which.number)).c_str(), O_RDWR);
  if (fd >= 0) b.kernel.close(fd);
  return fd >= 0 ? 0 : fd;
}

// --- finding and opening ---

void sysfs_link(bench& b) {
  std::array<char, 256> target{};
  const std::string path = "/sys/bus/platform/devices/" + b.emulated().device + "/iommu_group";
  const ssize_t told = b.kernel.readlink(path.c_str(), target.data(), target.size());
  expect_true(told > 0, "the link can be read");
  const std::string link(target.data(), static_cast<std::size_t>(told));
  expect_true(link.substr(link.rfind('/') + 1) == std::to_string(b.emulated().number),
              "it ends in the group's number: " + link);
}

void sysfs_link_of_devices_folder(bench& b) {
  std::array<char, 256> target{};
  const std::string path = "/sys/devices/platform/" + b.emulated().device + "/iommu_group";
  expect_true(b.kernel.readlink(path.c_str(), target.data(), target.size()) > 0, "the link can be read");
}

void sysfs_link_of_pci(bench& b) {
  std::array<char, 256> target{};
  const std::string path = "/sys/bus/pci/devices/" + b.backed().device + "/iommu_group";
  const ssize_t told = b.kernel.readlink(path.c_str(), target.data(), target.size());
  expect_true(told > 0, "the link can be read");
  const std::string link(target.data(), static_cast<std::size_t>(told));
  expect_true(link.substr(link.rfind('/') + 1) == std::to_string(b.backed().number),
              "it ends in the group's number: " + link);
}

void sysfs_link_cut(bench& b) {
  std::array<char, 4> target{};
  const std::string path = "/sys/bus/platform/devices/" + b.emulated().device + "/iommu_group";
  expect(b.kernel.readlink(path.c_str(), target.data(), target.size()), 4, "a buffer too small is filled");
}

void sysfs_link_missing(bench& b) {
  std::array<char, 256> target{};
  const char* path = "/sys/bus/platform/devices/tidemark-test.999/iommu_group";
  expect(b.kernel.readlink(path, target.data(), target.size()), -ENOENT, "readlink");
}

void open_unknown(bench& b) { expect(b.kernel.open("/dev/vfio/987654", O_RDWR), -ENOENT, "open"); }

void open_twice(bench& b) {
  auto group = b.open_group(b.emulated());
  expect(try_open(b, b.emulated()), -EBUSY, "a second open");
  group.reset();
  expect(try_open(b, b.emulated()), 0, "an open after the close");
}

// --- status ---

void status_argsz(bench& b) {
  const auto group = b.open_group(b.emulated());
  vfio_group_status status{.argsz = sizeof(status) - 1, .flags = 0};
  expect(b.kernel.ioctl(group.get(), VFIO_GROUP_GET_STATUS, &status), -EINVAL, "GET_STATUS");
}

void status_flags(bench& b) {
  const auto group = b.open_group(b.emulated());
  expect(status_of(b, group), viable, "flags of a free group");
  const auto container = b.open_container();
  expect(b.attach(group, container), 0, "SET_CONTAINER");
  expect(status_of(b, group), viable | attached, "flags of an attached group");
}

void status_backed(bench& b) {
  const auto group = b.open_group(b.backed());
  expect(status_of(b, group), viable, "flags of a free group");
}

void unknown_request(bench& b) {
  const auto group = b.open_group(b.emulated());
  expect(b.kernel.ioctl(group.get(), VFIO_IOMMU_GET_INFO), -ENOTTY, "a request no group knows");
}

// --- containers ---

void set_bad_descriptor(bench& b) {
  const auto group = b.open_group(b.emulated());
  int fd = 1 << 30;
  expect(b.kernel.ioctl(group.get(), VFIO_GROUP_SET_CONTAINER, &fd), -EBADF, "a descriptor that is not open");
  fd = group.get();
  const int stranger = b.since(6, 2) ? -EBADFD : -EINVAL;
  expect(b.kernel.ioctl(group.get(), VFIO_GROUP_SET_CONTAINER, &fd), stranger, "a descriptor that is no container");
  expect(b.kernel.ioctl(group.get(), VFIO_GROUP_SET_CONTAINER), -EFAULT, "no address");
}

void set_twice(bench& b) {
  const auto group = b.open_group(b.emulated());
  const auto container = b.open_container();
  const auto other = b.open_container();
  expect(b.attach(group, container), 0, "SET_CONTAINER");
  expect(b.attach(group, container), -EINVAL, "the same container again");
  expect(b.attach(group, other), -EINVAL, "another container");
}

void unset_unattached(bench& b) {
  const auto group = b.open_group(b.emulated());
  expect(b.kernel.ioctl(group.get(), VFIO_GROUP_UNSET_CONTAINER), -EINVAL, "UNSET_CONTAINER");
}

void unset_with_device(bench& b) {
  const session s = emulated_session(b);
  auto device = s.device();
  expect(b.kernel.ioctl(s.groups[0].get(), VFIO_GROUP_UNSET_CONTAINER), -EBUSY, "with a device open");
  device.reset();
  expect(b.kernel.ioctl(s.groups[0].get(), VFIO_GROUP_UNSET_CONTAINER), 0, "with the device closed");
  expect(status_of(b, s.groups[0]), viable, "flags afterwards");
}

void second_joins(bench& b) {
  const session s = emulated_session(b);
  const auto second = b.open_group(b.emulated(1));
  expect(b.attach(second, s.container), 0, "SET_CONTAINER");
  const auto device = b.open_device(second, b.emulated(1).device);
  expect_true(static_cast<bool>(device), "its device opens without another SET_IOMMU");
}

void last_leaves(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  expect(b.kernel.ioctl(s.groups[0].get(), VFIO_GROUP_UNSET_CONTAINER), 0, "UNSET_CONTAINER");
  std::uint64_t size = page;
  expect(s.unmap(0, size), -EINVAL, "UNMAP of a container that lost its type");
  expect(b.attach(s.groups[0], s.container), 0, "SET_CONTAINER again");
  expect(b.kernel.ioctl(s.container.get(), VFIO_SET_IOMMU, std::uintptr_t{VFIO_TYPE1v2_IOMMU}), 0, "SET_IOMMU again");
  size = page;
  expect(s.unmap(0, size), 0, "UNMAP");
  expect(size, 0, "bytes that were still mapped");
}

void one_of_two_leaves(bench& b) {
  const session s(b, {b.emulated(0), b.emulated(1)});
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  expect(b.kernel.ioctl(s.groups[1].get(), VFIO_GROUP_UNSET_CONTAINER), 0, "UNSET_CONTAINER");
  std::uint64_t size = page;
  expect(s.unmap(0, size), 0, "UNMAP");
  expect(size, page, "bytes that were still mapped");
}

void closing_detaches(bench& b) {
  session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  s.groups[0].reset();
  std::uint64_t size = page;
  expect(s.unmap(0, size), -EINVAL, "UNMAP of a container that lost its type");
}

void container_outlives_descriptor(bench& b) {
  session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  s.container.reset();
  expect(status_of(b, s.groups[0]), viable | attached, "flags");
  const auto device = s.device();
  expect(ring(b, device, 0, 8, 0x77), 0, "a doorbell");
  expect(ram.at(0), 0x77, "the byte it wrote");
}

void group_outlives_descriptor(bench& b) {
  session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  auto device = s.device();
  s.groups[0].reset();
  expect(try_open(b, b.emulated()), -EBUSY, "an open of the group while its device is open");
  expect(ring(b, device, 0, 8, 0x55), 0, "a doorbell");
  expect(ram.at(0), 0x55, "the byte it wrote");
  device.reset();
  expect(try_open(b, b.emulated()), 0, "an open of the group after its device closed");
}

// --- IOMMU-backed groups that join what is there ---

int join_backed(const session& s) {
  const auto group = s.on.open_group(s.on.backed());
  return s.on.attach(group, s.container);
}

void join_pins(bench& b) {
  const session s = emulated_session(b);
  memory ram(16 * page);
  expect(s.map(0, 16 * page, ram.address()), 0, "MAP");
  expect(join_backed(s), 0, "SET_CONTAINER with memory to pin");
  ram.release();
  expect(join_backed(s), -EFAULT, "SET_CONTAINER with memory that is gone");
  expect(s.unmap_low(), 16 * page, "bytes still mapped after the refusal");
}

void join_reserved(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(0xfee00000, page, ram.address()), 0, "MAP where an IOMMU takes interrupts");
  expect(join_backed(s), -EINVAL, "SET_CONTAINER");
}

void join_too_wide(bench& b) {
  const session s = emulated_session(b);
  const memory ram(page);
  expect(s.map(1ULL << 60, page, ram.address()), 0, "MAP beyond the IOMMU's width");
  expect(join_backed(s), -EFAULT, "SET_CONTAINER");
}

void join_while_invalid(bench& b) {
  const session s = backed_session(b);
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  std::uint64_t size = page;
  expect(s.unmap(0, size, VFIO_DMA_UNMAP_FLAG_VADDR), 0, "UNMAP VADDR");
  const auto group = b.open_group(b.emulated());
  expect(b.attach(group, s.container), -EBUSY, "SET_CONTAINER");
}

}  // namespace

std::vector<test_case> group_cases() {
  return {
      {"group: the sysfs link of a device ends in its number", sysfs_link},
      {"group: the link is there in /sys/devices, too", sysfs_link_of_devices_folder},
      {"group: the link of a PCI device", sysfs_link_of_pci},
      {"group: a link longer than the buffer is cut", sysfs_link_cut},
      {"group: a device that is not there has no link", sysfs_link_missing},
      {"group: opening an unknown one is ENOENT", open_unknown},
      {"group: opening it twice is EBUSY, until it is closed", open_twice},
      {"group: GET_STATUS with a short argsz is EINVAL", status_argsz},
      {"group: GET_STATUS says viable and attached", status_flags},
      {"group: GET_STATUS of an IOMMU-backed group", status_backed},
      {"group: an unknown request is ENOTTY", unknown_request},
      {"group: SET_CONTAINER to no container is EBADF, EINVAL (from 6.2 EBADFD) or EFAULT", set_bad_descriptor},
      {"group: SET_CONTAINER twice is EINVAL", set_twice},
      {"group: UNSET_CONTAINER without a container is EINVAL", unset_unattached},
      {"group: UNSET_CONTAINER with a device open is EBUSY", unset_with_device},
      {"group: a second one joins a container that has its type", second_joins},
      {"group: the last one to leave takes mappings and type along", last_leaves},
      {"group: one of two leaves and the mappings stay", one_of_two_leaves},
      {"group: closing it detaches it", closing_detaches},
      {"group: a container lives on while a group is attached", container_outlives_descriptor},
      {"group: a group lives on while its device is open", group_outlives_descriptor},
      {"group: an IOMMU-backed one that joins pins what is mapped", join_pins},
      {"group: an IOMMU-backed one cannot join mappings in reserved ranges", join_reserved},
      {"group: an IOMMU-backed one cannot join mappings beyond its width", join_too_wide},
      {"group: none can join while addresses are invalid", join_while_invalid, {5, 12}},
  };
}

}  // namespace tidemark::conformance
