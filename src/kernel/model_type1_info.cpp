// SPDX-License-Identifier: Apache-2.0
//
// VFIO_IOMMU_GET_INFO and its capability chain.

#include <linux/vfio.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "kernel/model_type1.hpp"
#include "kernel/user_memory.hpp"

namespace tidemark::kernel::modelled {
namespace {

/// vfio_iommu_type1_info_cap_iova_range without its array of no size.
struct iova_range_head {
  vfio_info_cap_header header;
  std::uint32_t nr_iovas;
  std::uint32_t reserved;
};
static_assert(sizeof(iova_range_head) == offsetof(vfio_iommu_type1_info_cap_iova_range, iova_ranges));

/// Appends a capability and makes the one before point to it. Offsets are from the start of the info structure.
class chain {
 public:
  explicit chain(bool aligned) noexcept : aligned_(aligned) {}

  template <class Capability>
  void add(std::uint16_t id, Capability capability) {
    capability.header.id = id;
    capability.header.version = 1;
    capability.header.next = 0;
    const auto here = static_cast<std::uint32_t>(sizeof(vfio_iommu_type1_info) + bytes_.size());
    if (!bytes_.empty()) std::memcpy(bytes_.data() + last_ + offsetof(vfio_info_cap_header, next), &here, sizeof(here));
    last_ = bytes_.size();
    append(&capability, sizeof(capability));
    if (aligned_) bytes_.resize((bytes_.size() + 7) / 8 * 8);
  }

  void append(const void* data, std::size_t bytes) {
    const std::size_t before = bytes_.size();
    bytes_.resize(before + bytes);
    std::memcpy(bytes_.data() + before, data, bytes);
  }

  std::vector<std::uint8_t> take() noexcept { return std::move(bytes_); }

 private:
  bool aligned_;
  std::size_t last_ = 0;
  std::vector<std::uint8_t> bytes_;
};

}  // namespace

std::vector<std::uint8_t> type1::capabilities() const {
  chain all(since(6, 6));  // before that the one behind DMA_AVAIL, of 12 bytes, begins where it may
  if (since(5, 8)) {
    vfio_iommu_type1_info_cap_migration migration{};
    migration.pgsize_bitmap = page_bytes();
    migration.max_dirty_bitmap_size = options_.bitmap_bytes_max;
    all.add(VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, migration);
  }
  if (since(5, 10)) {
    vfio_iommu_type1_info_dma_avail available{};
    available.avail = budget_;
    all.add(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, available);
  }
  if (since(5, 4) && !windows_.empty()) {
    iova_range_head head{};
    head.nr_iovas = static_cast<std::uint32_t>(windows_.size());
    all.add(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, head);
    for (const model_window& window : windows_) {
      const vfio_iova_range range{.start = window.first, .end = window.last};
      all.append(&range, sizeof(range));
    }
  }
  return all.take();
}

int type1::get_info(std::uintptr_t argument) const {
  constexpr std::size_t without_capabilities = offsetof(vfio_iommu_type1_info, cap_offset);
  constexpr std::size_t with_capabilities = without_capabilities + sizeof(vfio_iommu_type1_info::cap_offset);
  vfio_iommu_type1_info info{};
  if (!user::copy_argument_in(argument, &info, without_capabilities)) return -EFAULT;
  if (info.argsz < without_capabilities) return -EINVAL;
  const std::size_t told = info.argsz >= with_capabilities ? with_capabilities : without_capabilities;

  info.flags = VFIO_IOMMU_INFO_PGSIZES;
  info.iova_pgsizes = page_sizes();
  const std::vector<std::uint8_t> chain_bytes = capabilities();
  if (!chain_bytes.empty()) {
    info.flags |= VFIO_IOMMU_INFO_CAPS;
    const auto needed = static_cast<std::uint32_t>(sizeof(info) + chain_bytes.size());
    if (info.argsz < needed) {
      info.argsz = needed;
    } else {
      info.cap_offset = sizeof(info);
      if (!user::copy_argument_out(argument + sizeof(info), chain_bytes.data(), chain_bytes.size())) return -EFAULT;
    }
  }
  return user::copy_argument_out(argument, &info, told) ? 0 : -EFAULT;
}

}  // namespace tidemark::kernel::modelled
