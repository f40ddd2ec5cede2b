// SPDX-License-Identifier: Apache-2.0
//
// Groups of several devices, groups that are not viable, in use, or fit no other, and devices that cannot be opened.
//
// covers R2 R3 R10 R11

#include <fcntl.h>

#include <array>
#include <cerrno>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

std::uint32_t status_of(const bench& b, const kernel::handle& group) {
  vfio_group_status status{.argsz = sizeof(status), .flags = ~0U};
  expect(b.kernel.ioctl(group.get(), VFIO_GROUP_GET_STATUS, &status), 0, "GET_STATUS");
  return status.flags;
}

int try_device(const bench& b, const kernel::handle& group, const std::string& name) {
  const int fd = b.kernel.ioctl(group.get(), VFIO_GROUP_GET_DEVICE_FD, name.c_str());
  if (fd >= 0) b.kernel.close(fd);
  return fd >= 0 ? 0 : fd;
}

int unset(const bench& b, const kernel::handle& group) { return b.kernel.ioctl(group.get(), VFIO_GROUP_UNSET_CONTAINER); }

std::string group_of(const bench& b, const std::string& device) {
  std::array<char, 256> target{};
  const std::string path = "/sys/bus/pci/devices/" + device + "/iommu_group";
  const ssize_t told = b.kernel.readlink(path.c_str(), target.data(), target.size());
  expect_true(told > 0, "the link can be read");
  const std::string link(target.data(), static_cast<std::size_t>(told));
  return link.substr(link.rfind('/') + 1);
}

// --- not viable ---

void not_viable(bench& b) {
  const auto group = b.open_group(b.not_viable());
  expect(status_of(b, group), 0, "flags");
  const auto container = b.open_container();
  expect(b.attach(group, container), -EPERM, "SET_CONTAINER");
  expect(try_device(b, group, b.not_viable().device), -EINVAL, "GET_DEVICE_FD");
  expect(unset(b, group), -EINVAL, "UNSET_CONTAINER");
  const auto other = b.open_group(b.emulated());
  expect(b.attach(other, container), 0, "SET_CONTAINER of another group, afterwards");
}

void not_viable_joins(bench& b) {
  const session s = backed_session(b);
  const auto group = b.open_group(b.not_viable());
  expect(b.attach(group, s.container), -EPERM, "SET_CONTAINER");
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP in the container as it was");
}

// --- several devices in a group ---

void two_devices(bench& b) {
  expect_true(group_of(b, b.pair().device) == group_of(b, b.pair().other), "both links end in one number");
  const session s(b, {b.pair()});
  auto first = s.device();
  auto second = b.open_device(s.groups[0], b.pair().other);
  expect(unset(b, s.groups[0]), -EBUSY, "UNSET_CONTAINER with both open");
  first.reset();
  expect(unset(b, s.groups[0]), -EBUSY, "UNSET_CONTAINER with one open");
  second.reset();
  expect(unset(b, s.groups[0]), 0, "UNSET_CONTAINER with none open");
}

void two_devices_one_group_file(bench& b) {
  session s(b, {b.pair()});
  auto first = s.device();
  auto second = b.open_device(s.groups[0], b.pair().other);
  s.groups[0].reset();
  first.reset();
  const auto path = "/dev/vfio/" + std::to_string(b.pair().number);
  expect(b.kernel.open(path.c_str(), O_RDWR), -EBUSY, "an open of the group while one of its devices is open");
  second.reset();
  expect_true(static_cast<bool>(b.open_group(b.pair())), "an open when all are closed");
}

void opened_again(bench& b) {
  const session s = backed_session(b);
  auto first = s.device();
  const auto second = s.device();
  first.reset();
  std::uint16_t vendor = 0;
  const std::uint64_t config = std::uint64_t{VFIO_PCI_CONFIG_REGION_INDEX} << 40;
  expect(b.kernel.pread(second.get(), &vendor, sizeof(vendor), config), 2, "pread by the descriptor that is left");
  expect(vendor, 0x1234, "the vendor");
}

// --- several groups in a container ---

void backed_beside_backed(bench& b) {
  const session s(b, {b.backed(), b.pair()});
  const memory ram(page);
  expect(s.map(0, page, ram.address()), 0, "MAP");
  expect(unset(b, s.groups[0]), 0, "UNSET_CONTAINER of the first");
  std::uint64_t size = page;
  expect(s.unmap(0, size), 0, "UNMAP");
  expect(size, page, "bytes that were still mapped");
}

void groups_leave_in_any_order(bench& b) {
  const session s(b, {b.emulated(), b.backed(), b.pair()});
  for (const std::size_t which : {1U, 0U, 2U}) expect(unset(b, s.groups[which]), 0, "UNSET_CONTAINER");
  expect(b.attach(s.groups[0], s.container), 0, "SET_CONTAINER into the empty container");
}

void moves_to_another_container(bench& b) {
  const session first = backed_session(b);
  const auto second = b.open_container();
  expect(b.attach(first.groups[0], second), -EINVAL, "SET_CONTAINER while attached");
  expect(unset(b, first.groups[0]), 0, "UNSET_CONTAINER");
  expect(b.attach(first.groups[0], second), 0, "SET_CONTAINER");
}

void incompatible(bench& b) {
  const session s = emulated_session(b);
  const auto group = b.open_group(b.backed());
  expect(b.attach(group, s.container), -EINVAL, "SET_CONTAINER beside another group");
  const auto own = b.open_container();
  expect(b.attach(group, own), 0, "SET_CONTAINER into a container of its own");
  expect(b.kernel.ioctl(own.get(), VFIO_SET_IOMMU, std::uintptr_t{VFIO_TYPE1v2_IOMMU}), 0, "SET_IOMMU there");
}

void incompatible_at_set_iommu(bench& b) {
  const auto first = b.open_group(b.emulated());
  const auto second = b.open_group(b.backed());
  const auto container = b.open_container();
  expect(b.attach(first, container), 0, "SET_CONTAINER");
  expect(b.attach(second, container), 0, "SET_CONTAINER before there is a type");
  expect(b.kernel.ioctl(container.get(), VFIO_SET_IOMMU, std::uintptr_t{VFIO_TYPE1v2_IOMMU}), -EINVAL, "SET_IOMMU");
  expect(unset(b, second), 0, "UNSET_CONTAINER");
  expect(b.kernel.ioctl(container.get(), VFIO_SET_IOMMU, std::uintptr_t{VFIO_TYPE1v2_IOMMU}), 0, "SET_IOMMU without it");
}

// --- devices ---

void no_name(bench& b) {
  const session s = emulated_session(b);
  expect(b.kernel.ioctl(s.groups[0].get(), VFIO_GROUP_GET_DEVICE_FD), -EFAULT, "no address");
  const std::string endless(8192, 'x');
  expect(try_device(b, s.groups[0], endless), -EINVAL, "a name longer than a page");
  expect(try_device(b, s.groups[0], ""), -ENODEV, "an empty name");
}

void busy_device(bench& b) {
  const session s = emulated_session(b);
  expect(try_device(b, s.groups[0], b.emulated().device), -EBUSY, "GET_DEVICE_FD");
  expect(unset(b, s.groups[0]), 0, "UNSET_CONTAINER: nothing is open");
}

}  // namespace

std::vector<test_case> topology_cases() {
  const auto alone = [](kernel::model_options& options) { options.groups[2].shares_container = false; };
  const std::string one_iommu = "the guest's groups have one IOMMU";
  return {
      {"topology: a group that is not viable says so and cannot be attached", not_viable},
      {"topology: a group that is not viable leaves the container as it was", not_viable_joins},
      {"topology: two devices of a group open by one group file", two_devices},
      {"topology: a group is in use until the last of its devices is closed", two_devices_one_group_file},
      {"topology: a PCI device can be opened twice", opened_again},
      {"topology: IOMMU-backed groups share a container", backed_beside_backed},
      {"topology: groups leave a container in any order", groups_leave_in_any_order},
      {"topology: a group moves to another container only by UNSET_CONTAINER", moves_to_another_container},
      {.name = "topology: a group whose IOMMU fits no other's is EINVAL beside one",
       .run = incompatible,
       .shape = alone,
       .model_only = one_iommu},
      {.name = "topology: groups that do not fit are EINVAL at SET_IOMMU",
       .run = incompatible_at_set_iommu,
       .shape = alone,
       .model_only = one_iommu},
      {"topology: GET_DEVICE_FD without a good name is EFAULT, EINVAL or ENODEV", no_name},
      {.name = "topology: a device whose driver refuses to open it answers as the driver",
       .run = busy_device,
       .shape = [](kernel::model_options& options) { options.groups[0].device_open_errno = EBUSY; },
       .model_only = "no driver in the guest refuses"},
  };
}

}  // namespace tidemark::conformance
