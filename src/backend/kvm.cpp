// SPDX-License-Identifier: Apache-2.0

#include "backend/kvm.hpp"

#include <linux/kvm.h>

#include <cerrno>
#include <cstdint>
#include <string>

namespace tidemark::backend {

namespace {

/// 0 or a negative errno.
int tell(kernel::files& kernel, int kvm_device, std::uint64_t what, const group& which) {
  const std::int32_t fd = which.file.get();
  kvm_device_attr request{};
  request.group = KVM_DEV_VFIO_GROUP;
  request.attr = what;
  request.addr = reinterpret_cast<std::uintptr_t>(&fd);
  return kernel.ioctl(kvm_device, KVM_SET_DEVICE_ATTR, &request);
}

}  // namespace

result<void> kvm_add(kernel::files& kernel, int kvm_device, const group& which) {
  const int answer = tell(kernel, kvm_device, KVM_DEV_VFIO_GROUP_ADD, which);
  if (answer == 0 || answer == -EEXIST) return {};
  return kernel_error(operation::tell_kvm, -answer, {},
                      "KVM_DEV_VFIO_GROUP_ADD of group " + std::to_string(which.number) +
                          ": its devices work, but KVM does not know whether their DMA is coherent");
}

result<void> kvm_remove(kernel::files& kernel, int kvm_device, const group& which) {
  int answer = tell(kernel, kvm_device, KVM_DEV_VFIO_GROUP_DEL, which);
  if (answer < 0 && answer != -ENOENT) answer = tell(kernel, kvm_device, KVM_DEV_VFIO_GROUP_DEL, which);
  if (answer == 0 || answer == -ENOENT) return {};
  return kernel_error(operation::tell_kvm, -answer, {},
                      "KVM_DEV_VFIO_GROUP_DEL of group " + std::to_string(which.number) +
                          ": KVM keeps it open until the VM ends, and it stays busy until then");
}

}  // namespace tidemark::backend
