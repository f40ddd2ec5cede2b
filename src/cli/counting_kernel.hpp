// SPDX-License-Identifier: Apache-2.0
//
// A kernel that counts the maps and unmaps asked of another one, for benchmarks: what an engine merges shows here and
// nowhere else. Any thread.

#pragma once

#include <linux/vfio.h>

#include <atomic>
#include <cstdint>

#include "kernel/passing.hpp"

namespace tidemark::cli {

class counting_kernel final : public kernel::passing {
 public:
  using passing::passing;

  /// VFIO_IOMMU_MAP_DMA and VFIO_IOMMU_UNMAP_DMA so far, whatever was answered.
  std::uint64_t map_ioctls() const noexcept { return maps_.load(std::memory_order_relaxed); }

  using files::ioctl;
  int ioctl(int fd, unsigned long request, std::uintptr_t argument) noexcept override {
    if (request == VFIO_IOMMU_MAP_DMA || request == VFIO_IOMMU_UNMAP_DMA) maps_.fetch_add(1, std::memory_order_relaxed);
    return passing::ioctl(fd, request, argument);
  }

 private:
  std::atomic<std::uint64_t> maps_{0};
};

}  // namespace tidemark::cli
