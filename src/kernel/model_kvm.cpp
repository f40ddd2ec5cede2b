// SPDX-License-Identifier: Apache-2.0

#include "kernel/model_kvm.hpp"

#include <linux/kvm.h>

#include <algorithm>

#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {

int kvm_file::ioctl(unsigned long request, std::uintptr_t argument) {
  switch (request) {
    case KVM_GET_API_VERSION:
      return argument == 0 ? KVM_API_VERSION : -EINVAL;
    case KVM_CHECK_EXTENSION:
      return argument == KVM_CAP_DEVICE_CTRL ? 1 : 0;
    case KVM_CREATE_VM:
      return descriptors_.install(std::make_shared<kvm_machine_file>(descriptors_, all_, options_));
    default:
      return -EINVAL;
  }
}

int kvm_machine_file::ioctl(unsigned long request, std::uintptr_t argument) {
  return request == KVM_CREATE_DEVICE ? create_device(argument) : -ENOTTY;
}

int kvm_machine_file::create_device(std::uintptr_t argument) {
  kvm_create_device request{};
  if (!user::copy_argument_in(argument, &request, sizeof(request))) return -EFAULT;
  if (request.type != KVM_DEV_TYPE_VFIO) return -ENODEV;
  if ((request.flags & KVM_CREATE_DEVICE_TEST) != 0) return 0;
  if (!device_.expired()) return -EBUSY;  // one a machine
  const bool holds_files = options_.version >= kernel_version{5, 19};
  auto made = std::make_shared<kvm_vfio_file>(shared_from_this(), descriptors_, holds_files);
  device_ = made;
  all_.erase(std::remove_if(all_.begin(), all_.end(), [](const auto& one) { return one.expired(); }), all_.end());
  all_.push_back(made);
  request.fd = static_cast<std::uint32_t>(descriptors_.install(std::move(made)));
  return user::copy_argument_out(argument, &request, sizeof(request)) ? 0 : -EFAULT;
}

kvm_vfio_file::~kvm_vfio_file() {
  if (holds_files_) return;
  for (const auto& one : groups_) --one->about().kvm_users;
}

int kvm_vfio_file::ioctl(unsigned long request, std::uintptr_t argument) {
  const bool known = request == KVM_SET_DEVICE_ATTR || request == KVM_HAS_DEVICE_ATTR || request == KVM_GET_DEVICE_ATTR;
  if (!known) return -ENOTTY;
  if (request == KVM_GET_DEVICE_ATTR) return -EPERM;  // there is nothing to get
  kvm_device_attr what{};
  if (!user::copy_argument_in(argument, &what, sizeof(what))) return -EFAULT;
  const bool has =
      what.group == KVM_DEV_VFIO_GROUP && (what.attr == KVM_DEV_VFIO_GROUP_ADD || what.attr == KVM_DEV_VFIO_GROUP_DEL);
  if (!has) return -ENXIO;
  return request == KVM_HAS_DEVICE_ATTR ? 0 : set(what);
}

int kvm_vfio_file::set(const kvm_device_attr& what) {
  int fd = -1;
  if (!user::copy_argument_in(what.addr, &fd, sizeof(fd))) return -EFAULT;
  const auto found = descriptors_.find(fd);
  if (!found) return -EBADF;
  const auto who = std::dynamic_pointer_cast<group_file>(found);
  const bool adds = what.attr == KVM_DEV_VFIO_GROUP_ADD;
  if (!who) return adds || !holds_files_ ? -EINVAL : -ENOENT;
  if (!holds_files_ && !who->about().container) return -EINVAL;
  return adds ? add(who) : remove(who);
}

int kvm_vfio_file::add(const std::shared_ptr<group_file>& who) {
  if (std::find(groups_.begin(), groups_.end(), who) != groups_.end()) return -EEXIST;
  groups_.push_back(who);
  if (!holds_files_) ++who->about().kvm_users;
  return 0;
}

int kvm_vfio_file::remove(const std::shared_ptr<group_file>& who) {
  const auto at = std::find(groups_.begin(), groups_.end(), who);
  if (at == groups_.end()) return -ENOENT;
  groups_.erase(at);
  if (!holds_files_) --who->about().kvm_users;
  return 0;
}

}  // namespace tidemark::kernel::modelled
