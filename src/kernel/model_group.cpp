// SPDX-License-Identifier: Apache-2.0

#include <linux/vfio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernel/model_objects.hpp"
#include "kernel/test_device.h"
#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {

group_file::~group_file() {
  leave_container();
  group_.open = false;
}

int group_file::ioctl(unsigned long request, std::uintptr_t argument) {
  switch (request) {
    case VFIO_GROUP_GET_STATUS:
      return get_status(argument);
    case VFIO_GROUP_SET_CONTAINER:
      return set_container(argument);
    case VFIO_GROUP_UNSET_CONTAINER:
      return unset_container();
    case VFIO_GROUP_GET_DEVICE_FD:
      return get_device(argument);
    default:
      return -ENOTTY;
  }
}

int group_file::get_status(std::uintptr_t argument) {
  vfio_group_status status{};
  if (!user::copy_argument_in(argument, &status, sizeof(status))) return -EFAULT;
  if (status.argsz < sizeof(status)) return -EINVAL;
  status.flags = 0;
  if (group_.container) status.flags |= VFIO_GROUP_FLAGS_CONTAINER_SET;
  if (group_.container || group_.about.viable) status.flags |= VFIO_GROUP_FLAGS_VIABLE;
  return user::copy_argument_out(argument, &status, sizeof(status)) ? 0 : -EFAULT;
}

int group_file::set_container(std::uintptr_t argument) {
  int fd = -1;
  if (!user::copy_argument_in(argument, &fd, sizeof(fd))) return -EFAULT;
  const auto found = descriptors_.find(fd);
  if (!found) return -EBADF;
  if (group_.container) return -EINVAL;
  auto to = std::dynamic_pointer_cast<container>(found);
  if (!to) return options_.version >= kernel_version{6, 2} ? -EBADFD : -EINVAL;
  if (const int failure = to->attach(group_)) return failure;
  group_.container = std::move(to);
  return 0;
}

int group_file::unset_container() {
  if (!group_.container) return -EINVAL;
  if (group_.open_devices + group_.kvm_users > 0) return -EBUSY;
  leave_container();
  return 0;
}

void group_file::leave_container() {
  if (!group_.container) return;
  group_.container->detach(group_);
  group_.container.reset();
}

int group_file::get_device(std::uintptr_t argument) {
  constexpr std::size_t name_bytes_max = 4096;
  char first = 0;
  if (!user::copy_argument_in(argument, &first, sizeof(first))) return -EFAULT;
  const char* name = reinterpret_cast<const char*>(argument);
  if (::strnlen(name, name_bytes_max) == name_bytes_max) return -EINVAL;
  const auto found =
      std::find_if(group_.devices.begin(), group_.devices.end(), [&](const device& d) { return d.name == name; });
  if (found == group_.devices.end()) return -ENODEV;
  if (!group_.container || !group_.container->has_iommu()) return -EINVAL;
  if (group_.about.noiommu && !options_.raw_io) return -EPERM;
  if (group_.about.device_open_errno != 0) return -group_.about.device_open_errno;
  auto self = std::static_pointer_cast<group_file>(shared_from_this());
  const bool is_test_device = found->name.starts_with(TIDEMARK_TEST_DEVICE_NAME ".");
  if (group_.about.noiommu || (group_.about.iommu_backed && !is_test_device)) {
    return descriptors_.install(std::make_shared<pci_file>(*found, std::move(self)));
  }
  return descriptors_.install(std::make_shared<test_device_file>(*found, std::move(self), descriptors_, options_.version));
}

}  // namespace tidemark::kernel::modelled
