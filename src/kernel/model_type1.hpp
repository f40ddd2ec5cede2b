// SPDX-License-Identifier: Apache-2.0
//
// The mapping side of the model: one container's type1 IOMMU driver, from VFIO_SET_IOMMU until its last group leaves.
//
// Threading: the model's mutex is held around every call.
//
// Invariants:
//  1. Mappings never overlap, with the exception that kernels before 6.18 make: a mapping that ends at 2^64 is invisible to
//     their look-ups (its end wraps to 0), so it can be neither met nor unmapped by range. See `hidden`. (In those kernels
//     it can also make its neighbour unreachable, by the shape of their search tree; that is not modelled.)
//  2. With an IOMMU-backed group every mapping is pinned and counted; with emulated groups only, none is.
//  3. A mapping has a dirty record only while tracking is on.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "kernel/model_iommu.hpp"

struct vfio_iommu_type1_dma_map;
struct vfio_iommu_type1_dma_unmap;
struct vfio_bitmap;

namespace tidemark::kernel::modelled {

class user_bitmap;

/// Which pages of a mapping are dirty. Most mappings are clean or wholly dirty, and then need no words.
///
/// The driver shifts a mapping's bitmap in place to fit it into a query, and afterwards clears just the mapping's own bits.
/// So bits behind its last page stay behind, and later queries report pages as dirty that lie behind the mapping. `stale_`
/// is those bits.
class dirty_record {
 public:
  void mark(std::uint64_t first_page, std::uint64_t last_page, std::uint64_t pages_of_mapping);
  void mark_all() noexcept { all_ = true; }
  /// The pages are clean from now on; what is stale stays.
  void forget() noexcept;
  /// As new: tracking has stopped.
  void clear() noexcept;
  /// The 64 bits from 64 * index on.
  std::uint64_t word(std::uint64_t index, std::uint64_t pages_of_mapping) const noexcept;
  /// Remembers what a shifted report left in a word.
  void keep_stale(std::uint64_t index, std::uint64_t value, std::uint64_t pages_of_mapping) noexcept;

 private:
  bool all_ = false;
  std::vector<std::uint64_t> words_;
  std::array<std::uint64_t, 2> stale_{};  // the words in which and behind which the mapping ends
};

struct mapping {
  std::uint64_t size = 0;
  std::uint64_t vaddr = 0;
  bool readable = false;
  bool writable = false;
  bool pinned = false;
  bool vaddr_invalid = false;
  dirty_record dirty;
};

class type1 final : public iommu {
 public:
  type1(bool v2, const model_options& options, locked_memory& locked) noexcept;
  ~type1() override;

  /// What the driver answers with no container: before VFIO_SET_IOMMU.
  static int offers(std::uintptr_t extension, const model_options& options) noexcept;
  int check_extension(std::uintptr_t extension) const noexcept override;

  int attach(const model_group& who) override;
  void detach(const model_group& who) override;
  int ioctl(unsigned long request, std::uintptr_t argument) override;
  int write(std::uint64_t iova, const void* from, std::size_t bytes) override;
  void list(std::size_t container, std::vector<model_mapping>& to) const override;
  std::size_t mapping_count() const noexcept override { return mappings_.size(); }

 private:
  using table = std::multimap<std::uint64_t, mapping>;  // by IOVA; duplicates only by invariant 1

  int map(std::uintptr_t argument);
  int check_map(const vfio_iommu_type1_dma_map& request) const;
  int change_vaddr(const vfio_iommu_type1_dma_map& request);
  int insert(const vfio_iommu_type1_dma_map& request);

  int unmap(std::uintptr_t argument);
  int read_unmap(std::uintptr_t argument, vfio_iommu_type1_dma_unmap& request, vfio_bitmap& bitmap) const;
  int check_unmap(const vfio_iommu_type1_dma_unmap& request, const vfio_bitmap& bitmap) const;
  int remove_range(vfio_iommu_type1_dma_unmap& request, const vfio_bitmap& bitmap);
  int invalidate(table::iterator first, std::uint64_t last, vfio_iommu_type1_dma_unmap& request);

  int dirty_pages(std::uintptr_t argument);
  int start_tracking();
  int stop_tracking() noexcept;
  int get_bitmap(std::uintptr_t argument, std::uint32_t argsz);
  int check_get(std::uint64_t iova, std::uint64_t size, const vfio_bitmap& bitmap) const;
  int check_bitmap(std::uint64_t size, const vfio_bitmap& bitmap) const;
  bool report(table::value_type& entry, std::uint64_t base_iova, user_bitmap& out) const;
  bool bitmap_possible(std::uint64_t size) const noexcept;

  int get_info(std::uintptr_t argument) const;
  std::vector<std::uint8_t> capabilities() const;

  int pin(mapping& what);
  void unpin(mapping& what) noexcept;
  int pin_all();
  bool backed() const noexcept { return backed_groups_ > 0; }
  int check_windows_of_mappings() const;
  bool inside_window(std::uint64_t first, std::uint64_t last) const noexcept;
  table::iterator remove(table::iterator at);

  // Look-ups, with the arithmetic of the kernel version.
  bool hidden(const table::value_type& entry) const noexcept;
  table::const_iterator first_ending_at_or_after(std::uint64_t iova) const;
  table::iterator first_ending_at_or_after(std::uint64_t iova);
  const table::value_type* meeting(std::uint64_t first, std::uint64_t last) const;
  bool bisects(std::uint64_t first, std::uint64_t last) const;
  bool wraps(std::uint64_t first, std::uint64_t size) const noexcept;
  int wrap_errno() const noexcept;

  std::uint64_t page_sizes() const noexcept;
  std::uint64_t page_bytes() const noexcept { return page_sizes() & (~page_sizes() + 1); }
  bool since(unsigned major, unsigned minor) const noexcept { return options_.version >= kernel_version{major, minor}; }

  const bool v2_;
  const model_options& options_;
  locked_memory& locked_;
  table mappings_;
  std::vector<model_window> windows_;  // empty: no restriction, as with emulated groups that never saw an IOMMU
  std::uint32_t budget_;
  std::size_t backed_groups_ = 0;
  std::size_t emulated_groups_ = 0;
  std::size_t unsharing_groups_ = 0;  // whose IOMMU fits no other's
  std::size_t invalid_vaddrs_ = 0;
  bool tracking_ = false;
};

}  // namespace tidemark::kernel::modelled
