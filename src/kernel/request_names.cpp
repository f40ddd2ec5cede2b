// SPDX-License-Identifier: Apache-2.0
//
// The names of requests, for whoever reads a trace of calls.

#include <linux/kvm.h>
#include <linux/vfio.h>

#include <tidemark/kernel_faulty.hpp>

#include "kernel/vfio_newer.h"

namespace tidemark::kernel {
namespace {

struct named_request {
  unsigned long request;
  const char* name;
};

constexpr named_request names[] = {
    {VFIO_GET_API_VERSION, "VFIO_GET_API_VERSION"},
    {VFIO_CHECK_EXTENSION, "VFIO_CHECK_EXTENSION"},
    {VFIO_SET_IOMMU, "VFIO_SET_IOMMU"},
    {VFIO_GROUP_GET_STATUS, "VFIO_GROUP_GET_STATUS"},
    {VFIO_GROUP_SET_CONTAINER, "VFIO_GROUP_SET_CONTAINER"},
    {VFIO_GROUP_UNSET_CONTAINER, "VFIO_GROUP_UNSET_CONTAINER"},
    {VFIO_GROUP_GET_DEVICE_FD, "VFIO_GROUP_GET_DEVICE_FD"},
    {VFIO_DEVICE_GET_INFO, "VFIO_DEVICE_GET_INFO"},
    {VFIO_DEVICE_GET_REGION_INFO, "VFIO_DEVICE_GET_REGION_INFO"},
    {VFIO_DEVICE_GET_IRQ_INFO, "VFIO_DEVICE_GET_IRQ_INFO"},
    {VFIO_DEVICE_SET_IRQS, "VFIO_DEVICE_SET_IRQS"},
    {VFIO_DEVICE_RESET, "VFIO_DEVICE_RESET"},
    {VFIO_MIG_GET_PRECOPY_INFO, "VFIO_MIG_GET_PRECOPY_INFO"},
    {VFIO_IOMMU_GET_INFO, "VFIO_IOMMU_GET_INFO"},
    {VFIO_IOMMU_MAP_DMA, "VFIO_IOMMU_MAP_DMA"},
    {VFIO_IOMMU_UNMAP_DMA, "VFIO_IOMMU_UNMAP_DMA"},
    {VFIO_IOMMU_ENABLE, "VFIO_IOMMU_ENABLE"},
    {VFIO_IOMMU_DISABLE, "VFIO_IOMMU_DISABLE"},
    {VFIO_IOMMU_DIRTY_PAGES, "VFIO_IOMMU_DIRTY_PAGES"},
    {VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, "VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY"},
    {VFIO_IOMMU_SPAPR_TCE_CREATE, "VFIO_IOMMU_SPAPR_TCE_CREATE"},
    {VFIO_IOMMU_SPAPR_TCE_REMOVE, "VFIO_IOMMU_SPAPR_TCE_REMOVE"},
    {KVM_GET_API_VERSION, "KVM_GET_API_VERSION"},
    {KVM_CREATE_VM, "KVM_CREATE_VM"},
    {KVM_CREATE_DEVICE, "KVM_CREATE_DEVICE"},
    {KVM_SET_DEVICE_ATTR, "KVM_SET_DEVICE_ATTR"},
    {KVM_GET_DEVICE_ATTR, "KVM_GET_DEVICE_ATTR"},
    {KVM_HAS_DEVICE_ATTR, "KVM_HAS_DEVICE_ATTR"},
    {KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION"},
    {KVM_GET_DIRTY_LOG, "KVM_GET_DIRTY_LOG"},
    {KVM_CLEAR_DIRTY_LOG, "KVM_CLEAR_DIRTY_LOG"},
    {KVM_RESET_DIRTY_RINGS, "KVM_RESET_DIRTY_RINGS"},
};

// What the same numbers mean elsewhere than on a type1 container.
constexpr named_request spapr_names[] = {
    {VFIO_IOMMU_SPAPR_TCE_GET_INFO, "VFIO_IOMMU_SPAPR_TCE_GET_INFO"},
    {VFIO_IOMMU_SPAPR_REGISTER_MEMORY, "VFIO_IOMMU_SPAPR_REGISTER_MEMORY"},
};
constexpr named_request device_names[] = {
    {VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO"},
    {VFIO_DEVICE_PCI_HOT_RESET, "VFIO_DEVICE_PCI_HOT_RESET"},
    {VFIO_DEVICE_FEATURE, "VFIO_DEVICE_FEATURE"},
};

template <std::size_t N>
const char* find(const named_request (&among)[N], unsigned long request) noexcept {
  for (const named_request& one : among) {
    if (one.request == request) return one.name;
  }
  return nullptr;
}

}  // namespace

const char* request_name(unsigned long request, request_target on) noexcept {
  const char* special = nullptr;
  if (on == request_target::spapr_container) special = find(spapr_names, request);
  if (on == request_target::device) special = find(device_names, request);
  if (special != nullptr) return special;
  const char* common = find(names, request);
  return common != nullptr ? common : "ioctl";
}

}  // namespace tidemark::kernel
