// SPDX-License-Identifier: Apache-2.0

#include <linux/vfio.h>

#include <algorithm>
#include <cerrno>

#include "kernel/model_objects.hpp"

namespace tidemark::kernel::modelled {

ssize_t file::read(void*, std::size_t) { return -EINVAL; }
ssize_t file::write(const void*, std::size_t) { return -EINVAL; }

int descriptor_table::install(std::shared_ptr<file> what) {
  files_.emplace(next_, std::move(what));
  return next_++;
}

std::shared_ptr<file> descriptor_table::find(int fd) const {
  const auto at = files_.find(fd);
  return at == files_.end() ? nullptr : at->second;
}

std::shared_ptr<file> descriptor_table::take(int fd) {
  const auto at = files_.find(fd);
  if (at == files_.end()) return nullptr;
  auto taken = std::move(at->second);
  files_.erase(at);
  return taken;
}

int container::ioctl(unsigned long request, std::uintptr_t argument) {
  switch (request) {
    case VFIO_GET_API_VERSION:
      return VFIO_API_VERSION;
    case VFIO_CHECK_EXTENSION:
      return iommu_ ? iommu_->check_extension(argument) : type1::offers(argument, options_);
    case VFIO_SET_IOMMU:
      return set_iommu(argument);
    default:
      return iommu_ ? iommu_->ioctl(request, argument) : -EINVAL;  // even for a request nobody knows
  }
}

int container::set_iommu(std::uintptr_t type) {
  if (groups_.empty() || iommu_) return -EINVAL;
  if (type1::offers(type, options_) == 0) return -ENODEV;
  const bool is_type = type == VFIO_TYPE1_IOMMU || type == VFIO_TYPE1v2_IOMMU || type == VFIO_TYPE1_NESTING_IOMMU;
  if (!is_type) return -EINVAL;  // an extension that is not a type, such as VFIO_UNMAP_ALL
  auto made = std::make_unique<type1>(type != VFIO_TYPE1_IOMMU, options_, locked_);
  for (const group* member : groups_) {
    if (const int failure = made->attach(member->about.iommu_backed)) return failure;
  }
  iommu_ = std::move(made);
  return 0;
}

int container::attach(group& who) {
  if (who.about.iommu_backed && !who.about.viable) return -EPERM;  // another driver owns the group's DMA
  if (iommu_) {
    if (const int failure = iommu_->attach(who.about.iommu_backed)) return failure;
  }
  groups_.push_back(&who);
  return 0;
}

void container::detach(group& who) {
  if (iommu_) iommu_->detach(who.about.iommu_backed);
  groups_.erase(std::remove(groups_.begin(), groups_.end(), &who), groups_.end());
  if (groups_.empty()) iommu_.reset();
}

void container::list(std::vector<model_mapping>& to) const {
  if (iommu_) iommu_->list(ordinal_, to);
}

}  // namespace tidemark::kernel::modelled
