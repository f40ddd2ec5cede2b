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

}  // namespace tidemark::tests
