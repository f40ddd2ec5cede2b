// SPDX-License-Identifier: Apache-2.0

#include "backend/capabilities.hpp"

#include <linux/vfio.h>

#include <utility>

#include "backend/capability_chain.hpp"

namespace tidemark::backend {

namespace {

using bytes = std::span<const std::byte>;

error malformed(std::string why) { return backend::malformed(operation::get_info, std::move(why)); }

result<void> read_windows(bytes answer, std::size_t offset, container_info& info) {
  vfio_iommu_type1_info_cap_iova_range head;
  if (!copy_at(answer, offset, head)) return malformed("the IOVA range capability is cut off");
  for (std::uint32_t i = 0; i < head.nr_iovas; ++i) {
    vfio_iova_range range;
    if (!copy_at(answer, offset + sizeof head + i * sizeof(vfio_iova_range), range))
      return malformed("the list of IOVA ranges leaves the buffer");
    if (range.end < range.start) return malformed("an IOVA range ends before it starts");
    // A window up to the last byte of the address space has a size that 64 bits cannot hold; its last byte is given up.
    const bool whole = range.start == 0 && range.end == ~std::uint64_t{0};
    info.windows.push_back({range.start, whole ? range.end : range.end - range.start + 1});
  }
  return {};
}

result<void> read_migration(bytes answer, std::size_t offset, std::uint64_t host_page_size, container_info& info) {
  vfio_iommu_type1_info_cap_migration capability;
  if (!copy_at(answer, offset, capability)) return malformed("the migration capability is cut off");
  if ((capability.pgsize_bitmap & host_page_size) == 0) return {};  // counts only with the host's page size
  info.can_track_dirty = true;
  info.dirty_bitmap_bytes_max = capability.max_dirty_bitmap_size;
  return {};
}

result<void> read_available(bytes answer, std::size_t offset, container_info& info) {
  vfio_iommu_type1_info_dma_avail capability;
  if (!copy_at(answer, offset, capability)) return malformed("the mapping budget capability is cut off");
  info.mappings_available = capability.avail;
  info.tells_mappings_available = true;
  return {};
}

result<void> read_capability(bytes answer, std::size_t offset, std::uint16_t id, std::uint64_t host_page_size,
                             container_info& info) {
  switch (id) {
    case VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
      return read_windows(answer, offset, info);
    case VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION:
      return read_migration(answer, offset, host_page_size, info);
    case VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL:
      return read_available(answer, offset, info);
    default:
      return {};  // newer kernels may say more
  }
}

}  // namespace

result<container_info> read_iommu_info(bytes answer, std::uint64_t host_page_size) {
  vfio_iommu_type1_info head;
  if (!copy_at(answer, 0, head)) return malformed("the answer is shorter than its head");
  container_info info;
  info.page_sizes = (head.flags & VFIO_IOMMU_INFO_PGSIZES) != 0 ? head.iova_pgsizes : host_page_size;
  if (info.page_sizes == 0) return malformed("the IOMMU has no page size");
  if ((head.flags & VFIO_IOMMU_INFO_CAPS) == 0) return info;

  auto read = walk_capabilities(operation::get_info, answer, head.cap_offset, sizeof head,
                                [&](const vfio_info_cap_header& header, std::size_t offset) {
                                  return read_capability(answer, offset, header.id, host_page_size, info);
                                });
  if (!read) return read.error();
  return info;
}

}  // namespace tidemark::backend
