// SPDX-License-Identifier: Apache-2.0
//
// The structure of VFIO_IOMMU_MAP_DMA, which type1 and sPAPR take alike: read always, write unless the memory is read-only
// (R14). Pure.

#pragma once

#include <linux/vfio.h>
#include <tidemark/container.hpp>

namespace tidemark::backend {

inline vfio_iommu_type1_dma_map map_request(const mapping& what) noexcept {
  vfio_iommu_type1_dma_map request{};
  request.argsz = sizeof request;
  request.flags = VFIO_DMA_MAP_FLAG_READ | (what.writable ? VFIO_DMA_MAP_FLAG_WRITE : 0U);
  request.vaddr = reinterpret_cast<std::uintptr_t>(what.host);
  request.iova = what.at.iova;
  request.size = what.at.size;
  return request;
}

}  // namespace tidemark::backend
