// SPDX-License-Identifier: Apache-2.0

#include <linux/vfio.h>

#include <algorithm>
#include <cerrno>

#include "kernel/model_objects.hpp"
#include "kernel/model_type1.hpp"

namespace tidemark::kernel::modelled {

namespace {

/// The driver of noiommu groups: it knows its type and nothing else.
class no_iommu final : public iommu {
 public:
  static int offers(std::uintptr_t extension) noexcept { return extension == VFIO_NOIOMMU_IOMMU ? 1 : 0; }

  int check_extension(std::uintptr_t extension) const noexcept override { return offers(extension); }
  int attach(const model_group&) override { return 0; }
  void detach(const model_group&) override {}
  int ioctl(unsigned long, std::uintptr_t) override { return -ENOTTY; }
};

/// Whether the kernel was built with noiommu support, which here is whether there are such groups.
bool knows_noiommu(const model_options& options) noexcept {
  return std::any_of(options.groups.begin(), options.groups.end(), [](const model_group& one) { return one.noiommu; });
}

}  // namespace

int container::ioctl(unsigned long request, std::uintptr_t argument) {
  switch (request) {
    case VFIO_GET_API_VERSION:
      return VFIO_API_VERSION;
    case VFIO_CHECK_EXTENSION:
      return check_extension(argument);
    case VFIO_SET_IOMMU:
      return set_iommu(argument);
    default:
      return iommu_ ? iommu_->ioctl(request, argument) : -EINVAL;  // even for a request nobody knows
  }
}

bool container::noiommu() const noexcept { return !groups_.empty() && groups_.front()->about.noiommu; }

// Before a type is set every driver is asked that the groups allow, and without groups every one there is.
int container::check_extension(std::uintptr_t extension) const noexcept {
  if (iommu_) return iommu_->check_extension(extension);
  const bool ask_noiommu = knows_noiommu(options_) && (groups_.empty() || noiommu());
  if (ask_noiommu && no_iommu::offers(extension) != 0) return 1;
  return noiommu() ? 0 : offers(extension);
}

/// By the platform's driver.
int container::offers(std::uintptr_t extension) const noexcept {
  return options_.spapr ? spapr::offers(extension) : type1::offers(extension, options_);
}

std::unique_ptr<iommu> container::make(std::uintptr_t type) const {
  if (noiommu()) return std::make_unique<no_iommu>();
  if (options_.spapr) return std::make_unique<spapr>(type == VFIO_SPAPR_TCE_v2_IOMMU, options_, locked_, registry_);
  return std::make_unique<type1>(type != VFIO_TYPE1_IOMMU, options_, locked_);
}

int container::set_iommu(std::uintptr_t type) {
  if (groups_.empty() || iommu_) return -EINVAL;
  if ((noiommu() ? no_iommu::offers(type) : offers(type)) == 0) return -ENODEV;
  if (noiommu() && !options_.raw_io) return -EPERM;
  const bool is_type = type == VFIO_TYPE1_IOMMU || type == VFIO_TYPE1v2_IOMMU || type == VFIO_TYPE1_NESTING_IOMMU;
  if (!noiommu() && !options_.spapr && !is_type) return -EINVAL;  // an extension that is no type, such as VFIO_UNMAP_ALL
  auto made = make(type);
  for (const group* member : groups_) {
    if (const int failure = made->attach(member->about)) return failure;
  }
  iommu_ = std::move(made);
  return 0;
}

int container::attach(group& who) {
  if (who.about.noiommu && !options_.raw_io) return -EPERM;
  if (!groups_.empty() && noiommu() != who.about.noiommu) return -EPERM;  // real and fake groups do not mix
  if (who.about.iommu_backed && !who.about.viable) return -EPERM;         // another driver owns the group's DMA
  if (iommu_) {
    if (const int failure = iommu_->attach(who.about)) return failure;
  }
  groups_.push_back(&who);
  return 0;
}

void container::detach(group& who) {
  if (iommu_) iommu_->detach(who.about);
  groups_.erase(std::remove(groups_.begin(), groups_.end(), &who), groups_.end());
  if (groups_.empty()) iommu_.reset();
}

void container::list(std::vector<model_mapping>& to) const {
  if (iommu_) iommu_->list(ordinal_, to);
}

}  // namespace tidemark::kernel::modelled
