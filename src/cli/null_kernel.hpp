// SPDX-License-Identifier: Apache-2.0
//
// A kernel that agrees to every map and unmap and keeps nothing but which of the first 16 GiB of IOVA are mapped, a bit a
// page, since an unmap says how much it unmapped. For benchmarks: what remains is the price of whoever asks.
// Threading: opened from any thread; maps and unmaps from one at a time.

#pragma once

#include <linux/vfio.h>
#include <tidemark/kernel.hpp>

#include <cstdint>
#include <cstring>
#include <limits>

#include "core/bitmap.hpp"

namespace tidemark::cli {

class null_kernel final : public kernel::files {
 public:
  using kernel::files::ioctl;
  int open(const char*, int) noexcept override { return 3; }
  int close(int) noexcept override { return 0; }
  int ioctl(int, unsigned long request, std::uintptr_t argument) noexcept override {
    if (request == VFIO_IOMMU_MAP_DMA) return map(*reinterpret_cast<const vfio_iommu_type1_dma_map*>(argument)), 0;
    if (request == VFIO_IOMMU_UNMAP_DMA) return unmap(*reinterpret_cast<vfio_iommu_type1_dma_unmap*>(argument)), 0;
    if (request == VFIO_CHECK_EXTENSION) return 1;
    if (request == VFIO_GROUP_GET_STATUS) reinterpret_cast<vfio_group_status*>(argument)->flags = VFIO_GROUP_FLAGS_VIABLE;
    if (request == VFIO_IOMMU_GET_INFO) describe(*reinterpret_cast<vfio_iommu_type1_info*>(argument));
    return 0;
  }
  ssize_t read(int, void*, std::size_t) noexcept override { return 0; }
  ssize_t write(int, const void*, std::size_t) noexcept override { return 0; }
  ssize_t pread(int, void*, std::size_t, std::uint64_t) noexcept override { return 0; }
  ssize_t pwrite(int, const void*, std::size_t, std::uint64_t) noexcept override { return 0; }
  ssize_t readlink(const char*, char*, std::size_t) noexcept override { return 0; }

 private:
  static constexpr std::uint64_t page = 4096;

  void map(const vfio_iommu_type1_dma_map& what) noexcept { mapped_.set(what.iova / page, what.size / page); }

  void unmap(vfio_iommu_type1_dma_unmap& what) noexcept {
    const auto before = mapped_.count();
    const bool all = (what.flags & VFIO_DMA_UNMAP_FLAG_ALL) != 0;
    all ? mapped_.clear(0, mapped_.size()) : mapped_.clear(what.iova / page, what.size / page);
    what.size = (before - mapped_.count()) * page;
  }

  core::bitmap mapped_{(std::uint64_t{16} << 30) / page};

  // Without a budget of its own an IOMMU is taken to hold 65535 mappings, and a benchmark wants to hold a million.
  static void describe(vfio_iommu_type1_info& info) noexcept {
    vfio_iommu_type1_info_dma_avail budget{};
    budget.header.id = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL;
    budget.header.version = 1;
    budget.avail = std::numeric_limits<std::uint32_t>::max();
    const bool fits = info.argsz >= sizeof info + sizeof budget;
    info.argsz = sizeof info + sizeof budget;
    info.flags = VFIO_IOMMU_INFO_PGSIZES | VFIO_IOMMU_INFO_CAPS;
    info.iova_pgsizes = 0x40201000;
    info.cap_offset = fits ? sizeof info : 0;
    if (fits) std::memcpy(reinterpret_cast<std::byte*>(&info) + sizeof info, &budget, sizeof budget);
  }
};

}  // namespace tidemark::cli
