// SPDX-License-Identifier: Apache-2.0

#include "backend/type1.hpp"

#include <linux/vfio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>

#include "backend/capabilities.hpp"
#include "backend/capability_chain.hpp"
#include "backend/map_request.hpp"
#include "core/bitmap.hpp"

namespace tidemark::backend {

namespace {

std::uint64_t host_page_size() noexcept {
  static const auto size = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return size;
}

std::string why_map_fails(int errno_value) {
  switch (errno_value) {
    case ENOMEM:
      return "pinning is over the locked-memory limit: raise it (ulimit -l unlimited, or LimitMEMLOCK=infinity)";
    case ENOSPC:
      return "the kernel's mapping budget is used up (vfio_iommu_type1.dma_entry_limit)";
    case EEXIST:
      return "the range meets a mapping that is already there";
    case EFAULT:
      return "the host memory cannot be pinned with the access asked for";
    case EINVAL:
      return "misaligned, or outside the IOVA windows";
    default:
      return {};
  }
}

/// The bitmap as the kernel takes it: bytes in whole words.
vfio_bitmap bitmap_for(iova_range range, std::uint64_t page_size, std::span<std::uint64_t> dirty) {
  vfio_bitmap described{};
  described.pgsize = page_size;
  described.size = core::words_for(range.size / page_size) * sizeof(std::uint64_t);
  described.data = reinterpret_cast<__u64*>(dirty.data());
  return described;
}

}  // namespace

result<container_info> type1::read_info() {
  const auto answer =
      ask(kernel_, file_, VFIO_IOMMU_GET_INFO, vfio_iommu_type1_info{}, operation::get_info, "VFIO_IOMMU_GET_INFO");
  if (!answer) return answer.error();
  auto info = read_iommu_info(*answer, host_page_size());
  if (!info) return info;
  info->type = v2_ ? iommu_type::type1v2 : iommu_type::type1;
  const auto unmaps_all = offers(VFIO_UNMAP_ALL, "VFIO_UNMAP_ALL");
  if (!unmaps_all) return unmaps_all.error();
  info->can_unmap_all = *unmaps_all;
  const auto releases = offers(VFIO_UPDATE_VADDR, "VFIO_UPDATE_VADDR");  // a group with an emulated IOMMU takes it away
  if (!releases) return releases.error();
  info->can_release_addresses = *releases;
  if (!v2_) info->can_track_dirty = false;  // v1 reports the capability and refuses VFIO_IOMMU_DIRTY_PAGES
  info_ = *info;
  return info;
}

result<bool> type1::offers(std::uintptr_t extension, const char* name) const {
  const int answer = kernel_.ioctl(file_, VFIO_CHECK_EXTENSION, extension);
  if (answer < 0) return kernel_error(operation::get_info, -answer, {}, std::string("VFIO_CHECK_EXTENSION of ") + name);
  return answer > 0;
}

result<void> type1::map(const mapping& what) {
  auto request = map_request(what);
  if (const int answer = kernel_.ioctl(file_, VFIO_IOMMU_MAP_DMA, &request); answer < 0)
    return kernel_error(operation::map, -answer, what.at, why_map_fails(-answer));
  return {};
}

result<void> type1::check_bitmap(operation what, iova_range range, std::span<const std::uint64_t> dirty) const {
  if (!info_.can_track_dirty) return make_error(what, errc::dirty_not_supported, range);
  const auto words = core::words_for(range.size / info_.page_size());
  if (words * sizeof(std::uint64_t) > info_.dirty_bitmap_bytes_max)
    return make_error(
        what, errc::bitmap_too_large, range,
        "at most " + std::to_string(info_.dirty_bitmap_bytes_max) + " bytes of bitmap: map the memory in smaller regions");
  if (dirty.size() < words) return kernel_error(what, EINVAL, range, "the bitmap handed in is too small for the range");
  return {};
}

result<std::uint64_t> type1::unmap(iova_range range, std::span<std::uint64_t> dirty) {
  // The structure ends in a flexible member that the bitmap's description fills.
  alignas(vfio_bitmap) std::array<std::byte, sizeof(vfio_iommu_type1_dma_unmap) + sizeof(vfio_bitmap)> storage{};
  auto* request = new (storage.data()) vfio_iommu_type1_dma_unmap{};
  request->argsz = sizeof *request;
  request->iova = range.iova;
  request->size = range.size;
  if (!dirty.empty()) {
    if (auto fits = check_bitmap(operation::unmap, range, dirty); !fits) return fits.error();
    std::fill(dirty.begin(), dirty.end(), 0);
    request->argsz = sizeof storage;
    request->flags = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP;
    new (request->data) vfio_bitmap(bitmap_for(range, info_.page_size(), dirty));
  }
  if (const int answer = kernel_.ioctl(file_, VFIO_IOMMU_UNMAP_DMA, request); answer < 0)
    return kernel_error(operation::unmap, -answer, range);
  return std::uint64_t{request->size};
}

result<std::uint64_t> type1::unmap_all() {
  vfio_iommu_type1_dma_unmap request{};
  request.argsz = sizeof request;
  request.flags = VFIO_DMA_UNMAP_FLAG_ALL;
  if (const int answer = kernel_.ioctl(file_, VFIO_IOMMU_UNMAP_DMA, &request); answer < 0)
    return kernel_error(operation::unmap, -answer, {}, "VFIO_DMA_UNMAP_FLAG_ALL");
  return std::uint64_t{request.size};
}

result<void> type1::set_dirty_tracking(bool on) {
  const auto what = on ? operation::start_dirty_tracking : operation::stop_dirty_tracking;
  if (!info_.can_track_dirty && !tracking_) return make_error(what, errc::dirty_not_supported);
  vfio_iommu_type1_dirty_bitmap request{};
  request.argsz = sizeof request;
  request.flags = on ? VFIO_IOMMU_DIRTY_PAGES_FLAG_START : VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP;
  if (const int answer = kernel_.ioctl(file_, VFIO_IOMMU_DIRTY_PAGES, &request); answer < 0)
    return kernel_error(what, -answer);
  tracking_ = on;
  return {};
}

result<void> type1::query_dirty(iova_range range, std::span<std::uint64_t> dirty) {
  if (auto fits = check_bitmap(operation::query_dirty, range, dirty); !fits) return fits.error();
  // The kernel overwrites the words of mapped areas and leaves gaps alone.
  std::fill(dirty.begin(), dirty.end(), 0);
  alignas(vfio_bitmap)
      std::array<std::byte, sizeof(vfio_iommu_type1_dirty_bitmap) + sizeof(vfio_iommu_type1_dirty_bitmap_get)>
          storage{};
  auto* request = new (storage.data()) vfio_iommu_type1_dirty_bitmap{};
  request->argsz = sizeof storage;
  request->flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP;
  new (request->data) vfio_iommu_type1_dirty_bitmap_get{range.iova, range.size, bitmap_for(range, info_.page_size(), dirty)};
  if (const int answer = kernel_.ioctl(file_, VFIO_IOMMU_DIRTY_PAGES, request); answer < 0)
    return kernel_error(operation::query_dirty, -answer, range);
  return {};
}

std::uint64_t type1::dirty_range_bytes_max() const noexcept {
  // Whole words, and no more than all addresses.
  const auto pages_max = info_.dirty_bitmap_bytes_max / sizeof(std::uint64_t) * core::bits_per_word;
  const auto all = ~std::uint64_t{0} / info_.page_size();
  return std::min(pages_max, all) * info_.page_size();
}

result<std::uint64_t> type1::release_addresses(iova_range range) {
  vfio_iommu_type1_dma_unmap request{};
  request.argsz = sizeof request;
  request.flags = VFIO_DMA_UNMAP_FLAG_VADDR | (range.size == 0 ? VFIO_DMA_UNMAP_FLAG_ALL : 0U);
  request.iova = range.iova;
  request.size = range.size;
  if (const int answer = kernel_.ioctl(file_, VFIO_IOMMU_UNMAP_DMA, &request); answer < 0)
    return kernel_error(operation::release_addresses, -answer, range, "VFIO_DMA_UNMAP_FLAG_VADDR");
  return std::uint64_t{request.size};
}

result<void> type1::renew_address(iova_range range, std::byte* host) {
  vfio_iommu_type1_dma_map request{};
  request.argsz = sizeof request;
  request.flags = VFIO_DMA_MAP_FLAG_VADDR;
  request.vaddr = reinterpret_cast<std::uintptr_t>(host);
  request.iova = range.iova;
  request.size = range.size;
  if (const int answer = kernel_.ioctl(file_, VFIO_IOMMU_MAP_DMA, &request); answer < 0)
    return kernel_error(operation::renew_addresses, -answer, range, "VFIO_DMA_MAP_FLAG_VADDR");
  return {};
}

}  // namespace tidemark::backend
