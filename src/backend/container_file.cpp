// SPDX-License-Identifier: Apache-2.0

#include "backend/container_file.hpp"

#include <fcntl.h>
#include <linux/vfio.h>

#include <array>
#include <span>
#include <utility>

#include "backend/device_file.hpp"
#include "backend/kvm.hpp"
#include "backend/no_iommu.hpp"
#include "backend/spapr.hpp"
#include "backend/type1.hpp"

namespace tidemark::backend {

namespace {

constexpr auto connecting = operation::connect_container;

struct model {
  iommu_type type;
  std::uintptr_t number;  ///< of VFIO_CHECK_EXTENSION and VFIO_SET_IOMMU
};
constexpr std::array richest_first{
    model{iommu_type::type1v2, VFIO_TYPE1v2_IOMMU}, model{iommu_type::type1, VFIO_TYPE1_IOMMU},
    model{iommu_type::spapr_v2, VFIO_SPAPR_TCE_v2_IOMMU}, model{iommu_type::spapr_v1, VFIO_SPAPR_TCE_IOMMU}};
constexpr std::array without_iommu{model{iommu_type::noiommu, VFIO_NOIOMMU_IOMMU}};

}  // namespace

container_file::~container_file() {
  // What is still mapped goes with the last group.
  while (!groups_.empty()) warn(leave(groups_.begin()));
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
  ++info_reads_;
  const auto& connected = groups_.emplace(number, std::move(*joining)).first->second;
  if (options_.kvm_device >= 0) warn(kvm_add(kernel_, options_.kvm_device, connected));
  return info_;
}

result<container_info> container_file::join(const group& joining) {
  const int fd = container_.get();
  if (const int answer = kernel_.ioctl(joining.file.get(), VFIO_GROUP_SET_CONTAINER, &fd); answer < 0)
    return kernel_error(connecting, -answer, {}, "VFIO_GROUP_SET_CONTAINER: the group does not fit this container");
  auto info = iommu_->read_info();  // the new group may narrow the windows
  if (!info) return taken_out(joining, info.error());
  return info;
}

/// The group did not make it: it leaves the container again.
error container_file::taken_out(const group& joined, error why) {
  if (auto left = unset_container(joined); !left) why.undone = "not undone: " + left.error().message();
  return why;
}

result<void> container_file::unset_container(const group& leaving) {
  if (const int answer = kernel_.ioctl(leaving.file.get(), VFIO_GROUP_UNSET_CONTAINER); answer < 0)
    return kernel_error(operation::detach, -answer, {},
                        "VFIO_GROUP_UNSET_CONTAINER of group " + std::to_string(leaving.number) +
                            ": it leaves when its last device is closed and the last mmap of one is gone");
  return {};
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
  auto driver = set_iommu_type(fd, first.noiommu);
  if (!driver) return taken_out(first, driver.error());
  auto info = (*driver)->read_info();
  if (!info) return taken_out(first, info.error());
  container_ = std::move(file);
  iommu_ = std::move(*driver);
  return info;
}

result<bool> container_file::offers(int file, std::uintptr_t type) {
  const int answer = kernel_.ioctl(file, VFIO_CHECK_EXTENSION, type);
  if (answer < 0) return kernel_error(connecting, -answer, {}, "VFIO_CHECK_EXTENSION");
  return answer > 0;
}

result<std::unique_ptr<iommu>> container_file::driver_of(int file, iommu_type type) {
  switch (type) {
    case iommu_type::type1v2:
    case iommu_type::type1:
      return std::unique_ptr<iommu>(std::make_unique<type1>(kernel_, file, type == iommu_type::type1v2));
    case iommu_type::spapr_v2:
    case iommu_type::spapr_v1: {
      auto driver = std::make_unique<spapr>(kernel_, file, type == iommu_type::spapr_v2, options_.warn);
      if (auto begun = driver->begin(); !begun) return begun.error();
      return std::unique_ptr<iommu>(std::move(driver));
    }
    case iommu_type::noiommu:
      break;
  }
  return std::unique_ptr<iommu>(std::make_unique<no_iommu>());
}

// The richest that is offered. That it is refused is final, but for sPAPR v2: the platform offers both versions and cannot
// know which of them works before a group is there.
result<std::unique_ptr<iommu>> container_file::set_iommu_type(int file, bool noiommu) {
  const auto models = noiommu ? std::span<const model>(without_iommu) : std::span<const model>(richest_first);
  int refusal = 0;
  for (const auto& [type, number] : models) {
    const auto offered = offers(file, number);
    if (!offered) return offered.error();
    if (!*offered) continue;
    refusal = kernel_.ioctl(file, VFIO_SET_IOMMU, number);
    if (refusal == 0) return driver_of(file, type);
    if (type != iommu_type::spapr_v2) break;
  }
  if (refusal != 0) return kernel_error(connecting, -refusal, {}, "VFIO_SET_IOMMU");
  return make_error(connecting, errc::no_iommu_model, {}, "load vfio_iommu_type1 (modprobe vfio_iommu_type1)");
}

result<void> container_file::leave(groups::iterator leaving) {
  result<void> told;
  if (options_.kvm_device >= 0) told = kvm_remove(kernel_, options_.kvm_device, leaving->second);
  const auto left = unset_container(leaving->second);
  groups_.erase(leaving);
  ++info_reads_;
  if (groups_.empty()) {
    iommu_.reset();
    container_.reset();
  } else if (auto info = iommu_->read_info(); info) {
    info_ = std::move(*info);  // without the group it may be more
  }
  return left ? told : left;
}

result<void> container_file::disconnect(unsigned number) {
  const auto found = groups_.find(number);
  if (found == groups_.end())
    return make_error(operation::detach, errc::not_attached, {}, "group " + std::to_string(number));
  return leave(found);
}

result<container_info> container_file::info() const {
  if (!iommu_) return make_error(operation::get_info, errc::not_attached, {}, "no group is in this container");
  return info_;
}

result<device> container_file::open_device(unsigned number, const std::string& name) {
  const auto found = groups_.find(number);
  if (found == groups_.end())
    return make_error(operation::open_device, errc::not_attached, {}, "group " + std::to_string(number));
  return backend::open_device(kernel_, found->second, name, options_.warn);
}

result<iommu*> container_file::driver(operation what, iova_range range) {
  if (!iommu_) return make_error(what, errc::not_attached, range, "no group is in this container");
  return iommu_.get();
}

}  // namespace tidemark::backend
