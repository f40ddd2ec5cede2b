// SPDX-License-Identifier: Apache-2.0
//
// The contract of an IOMMU driver behind a container file: map, unmap, start, stop and read dirty. One object is the driver
// that VFIO_SET_IOMMU chose for one container: type1, sPAPR or noiommu.
//
// Threading: every call blocks; one thread at a time (the container's lane). The container file, and a group in it, outlive
// the object.
//
// Invariant: a call that fails leaves what was mapped as it was before, but for an unmap, of which the kernel may have done
// a part.

#pragma once

#include <tidemark/container.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace tidemark::backend {

class iommu {
 public:
  virtual ~iommu() = default;

  /// What the container can do with the groups that are in it now. Asked again whenever a group came.
  virtual result<container_info> read_info() = 0;

  virtual result<void> map(const mapping& what) = 0;

  /// Gives the bytes unmapped. With a bitmap, what devices dirtied up to the unmap is in it.
  virtual result<std::uint64_t> unmap(iova_range range, std::span<std::uint64_t> dirty) = 0;

  /// Everything: VFIO_DMA_UNMAP_FLAG_ALL. Only where container_info::can_unmap_all.
  virtual result<std::uint64_t> unmap_all() { return make_error(operation::unmap, errc::unmap_all_not_supported); }

  // A driver that cannot track what devices dirty leaves these as they are: errc::dirty_not_supported.
  virtual result<void> set_dirty_tracking(bool on) {
    return make_error(on ? operation::start_dirty_tracking : operation::stop_dirty_tracking, errc::dirty_not_supported);
  }
  virtual result<void> query_dirty(iova_range range, std::span<std::uint64_t> /*dirty*/) {
    return make_error(operation::query_dirty, errc::dirty_not_supported, range);
  }

  /// Bytes of IOVAs that the largest bitmap is for: a query, or an unmap with one, of more is errc::bitmap_too_large.
  virtual std::uint64_t dirty_range_bytes_max() const noexcept { return 0; }

  // Only where container_info::can_release_addresses.

  /// VFIO_DMA_UNMAP_FLAG_VADDR of the mappings in the range, of everything where it is empty and can_unmap_all. All of them
  /// or none; one that is released already is EINVAL. Gives their bytes.
  virtual result<std::uint64_t> release_addresses(iova_range range) {
    return make_error(operation::release_addresses, errc::release_not_supported, range);
  }
  /// VFIO_DMA_MAP_FLAG_VADDR of one mapping that is released.
  virtual result<void> renew_address(iova_range range, std::byte* /*host*/) {
    return make_error(operation::renew_addresses, errc::release_not_supported, range);
  }
};

}  // namespace tidemark::backend
