// SPDX-License-Identifier: Apache-2.0
//
// VFIO_IOMMU_DIRTY_PAGES and VFIO_DEVICE_FEATURE are the same number; what the descriptor is tells them apart. Without it,
// their flags do: each feature request has one of the bits from 16 on.

#pragma once

#include <linux/vfio.h>

#include <cstdint>

namespace tidemark::tests {

/// The flags of a VFIO_IOMMU_DIRTY_PAGES; 0 when it is another request.
inline std::uint32_t dirty_pages_flags(unsigned long request, std::uintptr_t argument) {
  if (request != VFIO_IOMMU_DIRTY_PAGES) return 0;
  const auto flags = reinterpret_cast<const vfio_iommu_type1_dirty_bitmap*>(argument)->flags;
  return flags < (1U << 16) ? flags : 0;
}

/// The number of the feature that a VFIO_DEVICE_FEATURE sets; 0 when it is another request, or probes.
inline std::uint32_t feature_set(unsigned long request, std::uintptr_t argument) {
  if (request != VFIO_DEVICE_FEATURE) return 0;
  const auto flags = reinterpret_cast<const vfio_device_feature*>(argument)->flags;
  const bool sets = (flags & VFIO_DEVICE_FEATURE_SET) != 0 && (flags & VFIO_DEVICE_FEATURE_PROBE) == 0;
  return sets ? flags & VFIO_DEVICE_FEATURE_MASK : 0;
}

}  // namespace tidemark::tests
