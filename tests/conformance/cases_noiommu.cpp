// SPDX-License-Identifier: Apache-2.0
//
// noiommu groups: devices that have no IOMMU at all, and containers that map nothing.
//
// covers R13

#include <fcntl.h>

#include <array>
#include <cerrno>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

kernel::handle open_noiommu(const bench& b) { return b.open("/dev/vfio/noiommu-" + std::to_string(b.noiommu().number)); }

int set_iommu(const bench& b, const kernel::handle& container, std::uintptr_t type) {
  return b.kernel.ioctl(container.get(), VFIO_SET_IOMMU, type);
}

int offers(const bench& b, const kernel::handle& container, std::uintptr_t extension) {
  return b.kernel.ioctl(container.get(), VFIO_CHECK_EXTENSION, extension);
}

/// A container with a noiommu group and its type.
struct unprotected {
  explicit unprotected(const bench& b) : group(open_noiommu(b)), container(b.open_container()) {
    expect(b.attach(group, container), 0, "SET_CONTAINER");
    expect(set_iommu(b, container, VFIO_NOIOMMU_IOMMU), 0, "SET_IOMMU");
  }
  kernel::handle group;
  kernel::handle container;
};

void names(bench& b) {
  const std::string number = std::to_string(b.noiommu().number);
  expect(b.kernel.open(("/dev/vfio/" + number).c_str(), O_RDWR), -ENOENT, "open without noiommu- in the name");
  const auto group = open_noiommu(b);
  expect(b.kernel.open(("/dev/vfio/noiommu-" + number).c_str(), O_RDWR), -EBUSY, "open a second time");
  expect(b.kernel.open("/dev/vfio/noiommu-0", O_RDWR), -ENOENT, "open of a group with an IOMMU by such a name");
  expect(b.kernel.open("/dev/vfio/noiommu-", O_RDWR), -ENOENT, "open without a number");
}

void sysfs(bench& b) {
  std::array<char, 256> text{};
  const std::string number = std::to_string(b.noiommu().number);
  const std::string link = "/sys/bus/pci/devices/" + b.noiommu().device + "/iommu_group";
  const ssize_t told = b.kernel.readlink(link.c_str(), text.data(), text.size());
  expect_true(told > 0, "the device has a link to its group");
  const std::string target(text.data(), static_cast<std::size_t>(told));
  expect_true(target.substr(target.rfind('/') + 1) == number, "which ends in the number");
  const auto name = b.open("/sys/kernel/iommu_groups/" + number + "/name");
  const ssize_t bytes = b.kernel.read(name.get(), text.data(), text.size());
  expect_true(std::string(text.data(), static_cast<std::size_t>(bytes)) == "vfio-noiommu\n",
              "the group's name says what it is");
  expect(b.kernel.read(name.get(), text.data(), text.size()), 0, "read at its end");
}

void extensions(bench& b) {
  const auto container = b.open_container();
  expect(offers(b, container, VFIO_NOIOMMU_IOMMU), 1, "NOIOMMU before there is a group");
  expect(offers(b, container, VFIO_TYPE1v2_IOMMU), 1, "type1v2 before there is a group");
  const auto group = open_noiommu(b);
  expect(b.attach(group, container), 0, "SET_CONTAINER");
  expect(offers(b, container, VFIO_NOIOMMU_IOMMU), 1, "NOIOMMU with the group");
  expect(offers(b, container, VFIO_TYPE1v2_IOMMU), 0, "type1v2 with the group");
  expect(set_iommu(b, container, VFIO_TYPE1v2_IOMMU), -ENODEV, "SET_IOMMU of type1v2");
  expect(set_iommu(b, container, VFIO_NOIOMMU_IOMMU), 0, "SET_IOMMU of NOIOMMU");
  expect(set_iommu(b, container, VFIO_NOIOMMU_IOMMU), -EINVAL, "SET_IOMMU again");
  expect(offers(b, container, VFIO_NOIOMMU_IOMMU), 1, "NOIOMMU with the type");
  expect(offers(b, container, VFIO_UNMAP_ALL), 0, "UNMAP_ALL with the type");
}

void real_group_is_not(bench& b) {
  const auto group = b.open_group(b.emulated());
  const auto container = b.open_container();
  expect(b.attach(group, container), 0, "SET_CONTAINER");
  expect(offers(b, container, VFIO_NOIOMMU_IOMMU), 0, "NOIOMMU");
  expect(set_iommu(b, container, VFIO_NOIOMMU_IOMMU), -ENODEV, "SET_IOMMU of NOIOMMU");
}

void no_mixing(bench& b) {
  const unprotected u(b);
  const auto real = b.open_group(b.emulated());
  expect(b.attach(real, u.container), -EPERM, "SET_CONTAINER of a real group beside a noiommu one");
  const session s(b, {b.backed()});
  const unsigned other = b.noiommu().number + 1;
  const auto fake = b.open("/dev/vfio/noiommu-" + std::to_string(other));
  expect(b.attach(fake, s.container), -EPERM, "SET_CONTAINER of a noiommu group beside a real one");
  expect(b.attach(fake, u.container), 0, "SET_CONTAINER of a noiommu group beside another");
}

void maps_nothing(bench& b) {
  const unprotected u(b);
  const memory ram(page);
  vfio_iommu_type1_dma_map map{
      .argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ, .vaddr = ram.address(), .iova = 0, .size = page};
  for (const unsigned long request :
       {VFIO_IOMMU_MAP_DMA, VFIO_IOMMU_UNMAP_DMA, VFIO_IOMMU_GET_INFO, VFIO_IOMMU_DIRTY_PAGES}) {
    expect(b.kernel.ioctl(u.container.get(), request, &map), -ENOTTY, "a request that asks for an IOMMU");
  }
}

void device_opens(bench& b) {
  const unprotected u(b);
  const auto device = b.open_device(u.group, b.noiommu().device);
  vfio_device_info info{};
  info.argsz = sizeof(info);
  expect(b.kernel.ioctl(device.get(), VFIO_DEVICE_GET_INFO, &info), 0, "GET_INFO");
  expect(info.flags, VFIO_DEVICE_FLAGS_PCI, "flags");
  expect(b.kernel.ioctl(u.group.get(), VFIO_GROUP_UNSET_CONTAINER), -EBUSY, "UNSET_CONTAINER while it is open");
}

void status(bench& b) {
  const auto group = open_noiommu(b);
  vfio_group_status told{.argsz = sizeof(told), .flags = 0};
  expect(b.kernel.ioctl(group.get(), VFIO_GROUP_GET_STATUS, &told), 0, "GET_STATUS");
  expect(told.flags, VFIO_GROUP_FLAGS_VIABLE, "flags");
}

void not_permitted(bench& b) {
  const std::string path = "/dev/vfio/noiommu-" + std::to_string(b.noiommu().number);
  expect(b.kernel.open(path.c_str(), O_RDWR), -EPERM, "open");
}

void none_there(bench& b) {
  const auto container = b.open_container();
  expect(offers(b, container, VFIO_NOIOMMU_IOMMU), 0, "NOIOMMU");
  expect(b.kernel.open("/dev/vfio/noiommu-5", O_RDWR), -ENOENT, "open");
}

}  // namespace

std::vector<test_case> noiommu_cases() {
  std::vector<test_case> cases = {
      {"noiommu: a group is opened as noiommu-<n>", names},
      {"noiommu: sysfs names the group", sysfs},
      {"noiommu: a container with such a group takes just the noiommu type", extensions},
      {"noiommu: a container with a real group does not take it", real_group_is_not},
      {"noiommu: real groups and others do not mix", no_mixing},
      {"noiommu: whatever asks for an IOMMU is ENOTTY", maps_nothing},
      {"noiommu: its device opens", device_opens},
      {"noiommu: the group is viable", status},
      {.name = "noiommu: without CAP_SYS_RAWIO it is EPERM",
       .run = not_permitted,
       .shape = [](kernel::model_options& options) { options.raw_io = false; }},
  };
  for (test_case& one : cases) {
    one.shape = [also = one.shape](kernel::model_options& options) {
      for (const unsigned number : {5U, 6U}) {
        options.groups.push_back(
            {.number = number, .devices = {"0000:00:0" + std::to_string(number + 3) + ".0"}, .noiommu = true});
      }
      if (also) also(options);
    };
    one.model_only = "Debian's kernel is built without noiommu support";
  }
  cases.push_back({"noiommu: a kernel without it offers no such type", none_there});
  return cases;
}

}  // namespace tidemark::conformance
