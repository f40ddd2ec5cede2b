// SPDX-License-Identifier: Apache-2.0
//
// The type1 IOMMU backend: builds the structures of <linux/vfio.h> and reads the kernel's answers. One object is one
// container file and the groups in it.
//
// Threading: every call blocks; one thread at a time (the container's lane).
//
// Invariants
//  1. The container file is open exactly while at least one group is attached.
//  2. A call that fails leaves what was open, attached and mapped as it was before.

#pragma once

#include <tidemark/container.hpp>
#include <tidemark/kernel.hpp>

#include <map>
#include <span>
#include <string>

namespace tidemark::backend {

class type1 {
 public:
  explicit type1(kernel::files& kernel) noexcept : kernel_(kernel) {}
  ~type1();

  result<container_info> connect(unsigned group);
  result<device> open_device(unsigned group, const std::string& name);

  result<void> map(const mapping& what);
  /// With a bitmap: VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP. Gives the bytes unmapped.
  result<std::uint64_t> unmap(iova_range range, std::span<std::uint64_t> dirty);

  result<void> set_dirty_tracking(bool on);
  result<void> query_dirty(iova_range range, std::span<std::uint64_t> dirty);

 private:
  result<kernel::handle> open_group(unsigned group);
  result<void> open_container(int group_file);
  result<void> set_iommu_type(int container_file);
  result<container_info> get_info();
  result<void> check_bitmap(operation what, iova_range range, std::span<const std::uint64_t> dirty) const;

  kernel::files& kernel_;
  kernel::handle container_;
  std::map<unsigned, kernel::handle> groups_;
  container_info info_;
  bool v2_ = false;  // else type1 v1, which cannot track
};

}  // namespace tidemark::backend
