// SPDX-License-Identifier: Apache-2.0
//
// The IOMMU of POWER machines behind a container file: sPAPR TCE, where IOVA space is a few windows, each a table with an
// entry a page. Version 1 has the platform's default window and no other, and its size counts as locked memory from begin()
// on. Version 2 registers memory before it is mapped, which pins it, and makes a window for a mapping that lies in none.
//
// It was run against the model of the kernel only: no machine with such an IOMMU has seen it.
//
// Kernel interface: <linux/vfio.h>, VFIO_SPAPR_TCE_IOMMU and VFIO_SPAPR_TCE_v2_IOMMU: VFIO_IOMMU_SPAPR_TCE_GET_INFO,
// VFIO_IOMMU_ENABLE, VFIO_IOMMU_SPAPR_[UN]REGISTER_MEMORY, VFIO_IOMMU_SPAPR_TCE_CREATE and _REMOVE, VFIO_IOMMU_[UN]MAP_DMA.
// The driver keeps no list of mappings: its MAP writes over whatever is there, may write beside the window's table when a
// mapping ends behind it, and its UNMAP cuts anything. What it does not refuse is refused here.
//
// Threading: every call blocks; one thread at a time. The container file, and a group in it, outlive the object. The object
// takes nothing down when it goes: what is mapped, registered and made goes when the last group leaves the container.
//
// Invariants
//  1. Mappings do not meet, and each lies wholly in one window.
//  2. Memory is registered, and a window made here exists, exactly while a mapping is in it; but for what the kernel refused
//     to take back, which is tried again with every later call. The default window is never removed.
//  3. A call that fails leaves what was mapped, registered and made as it was. An unmap may have done a part: mappings it
//     came to before are gone.
//
// Limits. The platform gives the default window and one more, which is made as large as the first mapping in it needs: map
// the largest region beyond the default window first. Memory that is registered cannot be registered overlapping: a region
// that shows a part of what another shows is mapped when that is registered whole.

#pragma once

#include <tidemark/container.hpp>
#include <tidemark/kernel.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "backend/iommu.hpp"

struct vfio_iommu_spapr_tce_info;

namespace tidemark::backend {

class spapr final : public iommu {
 public:
  /// `warn` is told of what the kernel did not take back. May be empty.
  spapr(kernel::files& kernel, int container_file, bool v2, std::function<void(const error&)> warn = {})
      : kernel_(kernel), file_(container_file), v2_(v2), warn_(std::move(warn)) {}

  /// Once, after VFIO_SET_IOMMU and before anything else. Version 1: VFIO_IOMMU_ENABLE.
  result<void> begin();

  /// Version 1: its window. Version 2: no windows, for they are made on demand. The page size is one that every window
  /// takes and that memory can be registered in.
  result<container_info> read_info() override;

  /// A mapping that meets one that is there: EEXIST. One for which there is no window and can be none: ENXIO (version 1),
  /// ENOSPC, with the window that the platform would give. Memory may be mapped again, whole or a part of it; where it meets
  /// other registered memory partly the kernel answers EINVAL.
  result<void> map(const mapping& what) override;

  /// All mappings in the range; one that it would cut is EINVAL, and then nothing was unmapped. No bitmap can be had.
  result<std::uint64_t> unmap(iova_range range, std::span<std::uint64_t> dirty) override;

 private:
  struct window {
    iova_range at;
    std::size_t uses = 0;  ///< mappings in it
  };
  struct registration {
    std::uint64_t size = 0;
    std::size_t uses = 0;  ///< mappings of it
  };
  struct held {
    std::uint64_t size = 0;
    std::uint64_t memory = 0;  ///< where its registration begins
    std::uint64_t window = 0;  ///< where its window begins
  };
  using held_map = std::map<std::uint64_t, held>;               // by IOVA
  using registrations = std::map<std::uint64_t, registration>;  // by address

  result<void> read_platform(vfio_iommu_spapr_tce_info& told);
  result<void> check(const mapping& what) const;
  result<void> check_whole(iova_range range) const;
  held_map::const_iterator latest(std::uint64_t iova) const;

  result<void> provide_window(iova_range at);
  result<void> create_window(std::uint64_t bytes, iova_range wanted);
  int remove_window(std::size_t index);
  window* window_around(iova_range at) noexcept;
  window* window_from(std::uint64_t start) noexcept;
  error no_window(iova_range at, iova_range given) const;

  result<void> provide_memory(const mapping& what);
  int memory_request(unsigned long request, std::uint64_t address, std::uint64_t size);
  registrations::iterator registration_around(std::uint64_t address, std::uint64_t size);

  result<void> write_entries(const mapping& what);
  void keep(const mapping& what);
  error taken_back(error failure);
  result<void> clear(std::uint64_t iova, const held& which);
  int drop_unused();

  kernel::files& kernel_;
  const int file_;
  const bool v2_;
  std::function<void(const error&)> warn_;
  std::uint64_t granule_ = 4096;
  std::uint64_t page_sizes_ = 4096;
  unsigned window_page_shift_ = 0;  // of windows made here; 0: the platform makes none
  std::uint32_t levels_max_ = 1;    // of their tables
  std::vector<window> windows_;     // the default one, then those made here
  held_map mappings_;
  registrations memory_;  // registered, with mappings
  registrations unused_;  // registered, without
};

}  // namespace tidemark::backend
