// SPDX-License-Identifier: Apache-2.0

#include "backend/container_file.hpp"

#include <fcntl.h>
#include <linux/vfio.h>

#include <utility>

#include "backend/device_file.hpp"
#include "backend/kvm.hpp"
#include "backend/no_iommu.hpp"
#include "backend/spapr.hpp"
#include "backend/type1.hpp"

namespace tidemark::backend {

namespace {

constexpr auto connecting = operation::connect_container;

/// Takes a group out of its container again unless it is told that it may stay.
class joined_group {
 public:
  joined_group(kernel::files& kernel, int file) noexcept : kernel_(kernel), file_(file) {}
  joined_group(const joined_group&) = delete;
  ~joined_group() {
    if (file_ >= 0) kernel_.ioctl(file_, VFIO_GROUP_UNSET_CONTAINER);
  }
  void stays() noexcept { file_ = -1; }

 private:
  kernel::files& kernel_;
  int file_;
};

}  // namespace

container_file::~container_file() {
  // What is still mapped goes with the last group.
  while (!groups_.empty()) leave(groups_.begin());
}

void container_file::warn(const result<void>& outcome) const {
  if (!outcome && options_.warn) options_.warn(outcome.error());
}

result<container_info> container_file::connect(unsigned number) {
  if (groups_.contains(number)) return info_;
  auto joining = open_group(kernel_, number);
  if (!joining) return joining.error();
  auto info = container_ ? join(*joining) : open_container(*joining);
  if (!info) return info.error();
  info_ = std::move(*info);
  const auto& connected = groups_.emplace(number, std::move(*joining)).first->second;
  if (options_.kvm_device >= 0) warn(kvm_add(kernel_, options_.kvm_device, connected));
  return info_;
}

result<container_info> container_file::join(const group& joining) {
  const int fd = container_.get();
  if (const int answer = kernel_.ioctl(joining.file.get(), VFIO_GROUP_SET_CONTAINER, &fd); answer < 0)
    return kernel_error(connecting, -answer, {}, "VFIO_GROUP_SET_CONTAINER: the group does not fit this container");
  joined_group joined(kernel_, joining.file.get());
  auto info = iommu_->read_info();  // the new group may narrow the windows
  if (info) joined.stays();
  return info;
}

result<container_info> container_file::open_container(const group& first) {
  const int fd = kernel_.open("/dev/vfio/vfio", O_RDWR);
  if (fd < 0)
    return kernel_error(connecting, -fd, {}, "/dev/vfio/vfio: load vfio (modprobe vfio-pci) and check its permissions");
  kernel::handle file(kernel_, fd);
  const int version = kernel_.ioctl(fd, VFIO_GET_API_VERSION);
  if (version < 0) return kernel_error(connecting, -version, {}, "VFIO_GET_API_VERSION");
  if (version != VFIO_API_VERSION)
    return make_error(connecting, errc::api_version, {},
                      "the kernel says " + std::to_string(version) + ", known is " + std::to_string(VFIO_API_VERSION));
  if (const int answer = kernel_.ioctl(first.file.get(), VFIO_GROUP_SET_CONTAINER, &fd); answer < 0)
    return kernel_error(connecting, -answer, {}, "VFIO_GROUP_SET_CONTAINER");
  joined_group joined(kernel_, first.file.get());
  auto driver = set_iommu_type(fd, first.noiommu);
  if (!driver) return driver.error();
  auto info = (*driver)->read_info();
  if (!info) return info.error();
  joined.stays();
  container_ = std::move(file);
  iommu_ = std::move(*driver);
  return info;
}

bool container_file::offers(int file, std::uintptr_t type) { return kernel_.ioctl(file, VFIO_CHECK_EXTENSION, type) > 0; }

int container_file::set_iommu(int file, std::uintptr_t type) { return kernel_.ioctl(file, VFIO_SET_IOMMU, type); }

result<std::unique_ptr<iommu>> container_file::set_spapr(int file, bool v2) {
  auto driver = std::make_unique<spapr>(kernel_, file, v2);
  if (auto begun = driver->begin(); !begun) return begun.error();
  return std::unique_ptr<iommu>(std::move(driver));
}

// Richest first. A failure is final, but for sPAPR: the platform offers both versions and cannot know which of them works
// before a group is there.
result<std::unique_ptr<iommu>> container_file::set_iommu_type(int file, bool noiommu) {
  const auto refused = [](int answer) { return kernel_error(connecting, -answer, {}, "VFIO_SET_IOMMU"); };
  if (noiommu) {
    if (const int answer = set_iommu(file, VFIO_NOIOMMU_IOMMU); answer < 0) return refused(answer);
    return std::unique_ptr<iommu>(std::make_unique<no_iommu>());
  }
  for (const bool v2 : {true, false}) {
    const std::uintptr_t type = v2 ? VFIO_TYPE1v2_IOMMU : VFIO_TYPE1_IOMMU;
    if (!offers(file, type)) continue;
    if (const int answer = set_iommu(file, type); answer < 0) return refused(answer);
    return std::unique_ptr<iommu>(std::make_unique<type1>(kernel_, file, v2));
  }
  int answer = 0;
  for (const bool v2 : {true, false}) {
    const std::uintptr_t type = v2 ? VFIO_SPAPR_TCE_v2_IOMMU : VFIO_SPAPR_TCE_IOMMU;
    if (!offers(file, type)) continue;
    answer = set_iommu(file, type);
    if (answer == 0) return set_spapr(file, v2);
  }
  if (answer < 0) return refused(answer);
  return make_error(connecting, errc::no_iommu_model, {}, "load vfio_iommu_type1 (modprobe vfio_iommu_type1)");
}

void container_file::leave(groups::iterator leaving) {
  const auto& group = leaving->second;
  if (options_.kvm_device >= 0) warn(kvm_remove(kernel_, options_.kvm_device, group));
  if (const int answer = kernel_.ioctl(group.file.get(), VFIO_GROUP_UNSET_CONTAINER); answer < 0)
    warn(kernel_error(operation::detach, -answer, {},
                      "VFIO_GROUP_UNSET_CONTAINER of group " + std::to_string(group.number) +
                          ": it leaves when its last device is closed"));
  groups_.erase(leaving);
  if (!groups_.empty()) return;
  iommu_.reset();
  container_.reset();
}

result<void> container_file::disconnect(unsigned number) {
  const auto found = groups_.find(number);
  if (found == groups_.end())
    return make_error(operation::detach, errc::not_attached, {}, "group " + std::to_string(number));
  leave(found);
  return {};
}

result<device> container_file::open_device(unsigned number, const std::string& name) {
  const auto found = groups_.find(number);
  if (found == groups_.end())
    return make_error(operation::open_device, errc::not_attached, {}, "group " + std::to_string(number));
  return backend::open_device(kernel_, found->second, name);
}

result<iommu*> container_file::driver(operation what, iova_range range) {
  if (!iommu_) return make_error(what, errc::not_attached, range, "no group is in this container");
  return iommu_.get();
}

}  // namespace tidemark::backend
