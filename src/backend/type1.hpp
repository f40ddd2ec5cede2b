// SPDX-License-Identifier: Apache-2.0
//
// The type1 IOMMU driver: builds the structures of <linux/vfio.h> and reads the kernel's answers.
//
// Threading: every call blocks; one thread at a time (the container's lane).

#pragma once

#include <tidemark/container.hpp>
#include <tidemark/kernel.hpp>

#include <span>

#include "backend/iommu.hpp"

namespace tidemark::backend {

class type1 final : public iommu {
 public:
  /// A container file that took VFIO_TYPE1v2_IOMMU, or without `v2` VFIO_TYPE1_IOMMU, which cannot track.
  type1(kernel::files& kernel, int container_file, bool v2) noexcept : kernel_(kernel), file_(container_file), v2_(v2) {}

  result<container_info> read_info() override;
  result<void> map(const mapping& what) override;
  /// With a bitmap: VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP.
  result<std::uint64_t> unmap(iova_range range, std::span<std::uint64_t> dirty) override;
  result<std::uint64_t> unmap_all() override;
  result<void> set_dirty_tracking(bool on) override;
  result<void> query_dirty(iova_range range, std::span<std::uint64_t> dirty) override;
  std::uint64_t dirty_range_bytes_max() const noexcept override;
  result<std::uint64_t> release_addresses(iova_range range) override;
  result<void> renew_address(iova_range range, std::byte* host) override;

 private:
  result<bool> offers(std::uintptr_t extension, const char* name) const;
  result<void> check_bitmap(operation what, iova_range range, std::span<const std::uint64_t> dirty) const;

  kernel::files& kernel_;
  const int file_;
  const bool v2_;
  container_info info_;  // as last read
  bool tracking_ = false;
};

}  // namespace tidemark::backend
