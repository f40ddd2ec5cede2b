// SPDX-License-Identifier: Apache-2.0
//
// KVM's VFIO pseudo-device: which groups it takes, and what it holds of them.
//
// covers R8

#include <fcntl.h>
#include <linux/kvm.h>

#include <cerrno>

#include "conformance/bench.hpp"

namespace tidemark::conformance {
namespace {

constexpr std::uint64_t add = KVM_DEV_VFIO_GROUP_ADD;
constexpr std::uint64_t del = KVM_DEV_VFIO_GROUP_DEL;

/// A virtual machine, and its pseudo-device unless `with_device` is false.
struct machine {
  explicit machine(const bench& b, bool with_device = true) : on(b) {
    const int fd = b.kernel.open("/dev/kvm", O_RDWR);
    if (fd < 0) throw skipped("needs /dev/kvm (in the guest: modprobe kvm_amd)");
    kvm = kernel::handle(b.kernel, fd);
    vm = kernel::handle(b.kernel, b.kernel.ioctl(kvm.get(), KVM_CREATE_VM));
    expect_true(static_cast<bool>(vm), "a virtual machine is made");
    if (with_device) expect(create(device), 0, "CREATE_DEVICE");
  }

  int create(kernel::handle& made, std::uint32_t type = KVM_DEV_TYPE_VFIO, std::uint32_t flags = 0) const {
    kvm_create_device request{.type = type, .fd = 0, .flags = flags};
    const int answer = on.kernel.ioctl(vm.get(), KVM_CREATE_DEVICE, &request);
    if (answer == 0 && flags == 0) made = kernel::handle(on.kernel, static_cast<int>(request.fd));
    return answer;
  }
  int attribute(unsigned long request, std::uint32_t group, std::uint64_t which, const int* fd) const {
    kvm_device_attr what{.flags = 0, .group = group, .attr = which, .addr = reinterpret_cast<std::uintptr_t>(fd)};
    return on.kernel.ioctl(device.get(), request, &what);
  }
  int set(std::uint64_t which, int fd) const { return attribute(KVM_SET_DEVICE_ATTR, KVM_DEV_VFIO_GROUP, which, &fd); }

  const bench& on;
  kernel::handle kvm;
  kernel::handle vm;
  kernel::handle device;
};

void version(bench& b) {
  const machine m(b, false);
  expect(b.kernel.ioctl(m.kvm.get(), KVM_GET_API_VERSION), KVM_API_VERSION, "GET_API_VERSION");
  expect(b.kernel.ioctl(m.kvm.get(), VFIO_GET_API_VERSION), -EINVAL, "a request KVM does not know");
  expect(b.kernel.ioctl(m.vm.get(), VFIO_GET_API_VERSION), -ENOTTY, "a request no machine knows");
}

void creates(bench& b) {
  const machine m(b, false);
  kernel::handle first;
  kernel::handle second;
  expect(m.create(first, KVM_DEV_TYPE_VFIO, KVM_CREATE_DEVICE_TEST), 0, "CREATE_DEVICE as a test");
  expect(m.create(first, 77), -ENODEV, "CREATE_DEVICE of an unknown type");
  expect(m.create(first), 0, "CREATE_DEVICE");
  expect(m.create(second), -EBUSY, "CREATE_DEVICE of a second one");
  expect(b.kernel.ioctl(first.get(), VFIO_GET_API_VERSION), -ENOTTY, "a request the device does not know");
  first.reset();
  expect(m.create(second), 0, "CREATE_DEVICE when the first is closed");
}

void attributes(bench& b) {
  const machine m(b);
  const auto has = [&](std::uint32_t group, std::uint64_t which) {
    return m.attribute(KVM_HAS_DEVICE_ATTR, group, which, nullptr);
  };
  expect(has(KVM_DEV_VFIO_GROUP, add), 0, "HAS of ADD");
  expect(has(KVM_DEV_VFIO_GROUP, del), 0, "HAS of DEL");
  expect(has(KVM_DEV_VFIO_GROUP, 9), -ENXIO, "HAS of an unknown attribute");
  expect(has(7, add), -ENXIO, "HAS of an unknown group of attributes");
  const int fd = 0;
  expect(m.set(9, fd), -ENXIO, "SET of an unknown attribute");
  expect(m.attribute(KVM_SET_DEVICE_ATTR, 7, add, &fd), -ENXIO, "SET of an unknown group of attributes");
  expect(m.attribute(KVM_GET_DEVICE_ATTR, KVM_DEV_VFIO_GROUP, add, &fd), -EPERM, "GET");
}

void adds(bench& b) {
  const machine m(b);
  const session s = emulated_session(b);
  const int group = s.groups[0].get();
  expect(m.set(add, group), 0, "ADD");
  expect(m.set(add, group), -EEXIST, "ADD again");
  expect(m.set(del, group), 0, "DEL");
  expect(m.set(del, group), -ENOENT, "DEL again");
  expect(m.set(add, group), 0, "ADD after DEL");
}

void adds_unattached(bench& b) {
  const machine m(b);
  const auto group = b.open_group(b.emulated());
  const bool files = b.since(5, 19);
  expect(m.set(add, group.get()), files ? 0 : -EINVAL, "ADD of a group without a container");
  expect(m.set(del, group.get()), files ? 0 : -EINVAL, "DEL of it");
}

void bad_descriptors(bench& b) {
  const machine m(b);
  expect(m.set(add, 1 << 30), -EBADF, "ADD of a descriptor that is not open");
  expect(m.set(del, 1 << 30), -EBADF, "DEL of one");
  expect(m.set(add, m.vm.get()), -EINVAL, "ADD of a descriptor that is no group");
  expect(m.set(del, m.vm.get()), b.since(5, 19) ? -ENOENT : -EINVAL, "DEL of one");
  expect(m.attribute(KVM_SET_DEVICE_ATTR, KVM_DEV_VFIO_GROUP, add, nullptr), -EFAULT, "ADD without an address");
}

void holds_the_group(bench& b) {
  machine m(b);
  session s = emulated_session(b);
  const std::string path = "/dev/vfio/" + std::to_string(b.emulated().number);
  expect(m.set(add, s.groups[0].get()), 0, "ADD");
  s.groups[0].reset();
  expect(b.kernel.open(path.c_str(), O_RDWR), -EBUSY, "an open of the group while KVM holds it");
  m.device.reset();
  expect_true(static_cast<bool>(b.open_group(b.emulated())), "an open when KVM's device is closed");
}

void unset_while_held(bench& b) {
  const machine m(b);
  const session s = emulated_session(b);
  expect(m.set(add, s.groups[0].get()), 0, "ADD");
  expect(b.kernel.ioctl(s.groups[0].get(), VFIO_GROUP_UNSET_CONTAINER), b.since(5, 19) ? 0 : -EBUSY, "UNSET_CONTAINER");
  expect(m.set(del, s.groups[0].get()), 0, "DEL");
}

void several(bench& b) {
  const machine m(b);
  const session s = mixed_session(b);
  expect(m.set(add, s.groups[0].get()), 0, "ADD");
  expect(m.set(add, s.groups[1].get()), 0, "ADD of another");
  expect(m.set(del, s.groups[0].get()), 0, "DEL of the first");
  expect(m.set(del, s.groups[1].get()), 0, "DEL of the other");
}

}  // namespace

std::vector<test_case> kvm_cases() {
  return {
      {"kvm: the API version, and requests it does not know", version},
      {"kvm: one VFIO device a machine", creates},
      {"kvm: attributes other than GROUP_ADD and GROUP_DEL are ENXIO", attributes},
      {"kvm: ADD once, DEL once", adds},
      {"kvm: ADD of a group without a container", adds_unattached},
      {"kvm: ADD and DEL of what is no group", bad_descriptors},
      {"kvm: the device holds the group open until it is closed", holds_the_group},
      {"kvm: UNSET_CONTAINER of a group it holds", unset_while_held},
      {"kvm: several groups", several},
  };
}

}  // namespace tidemark::conformance
